//! The seam between the rooms that must survive a power cut and the disk.
