//! The Merkle tree of RFC 6962 §2.1 over SHA-256: hashes, roots, inclusion and consistency proofs.
//! Pure: no files, no clock. What is proven here means nothing until a signed checkpoint names the root.
//! [`Tree`] keeps only the right edge, so that a log of any length costs a few kilobytes of memory;
//! asking it for a node that [`Tree::trim`] let go is [`Forgotten`], a bug of the caller.

use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hashes in a full tile (C2SP tlog-tiles): 2^8.
pub const TILE_WIDTH: u64 = 256;

/// `SHA-256(0x00 ‖ entry)` (RFC 6962 §2.1): the prefix keeps a leaf from passing as a node.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let hash = Sha256::new().chain_update([0]).chain_update(entry);
    hash.finalize().into()
}

/// `SHA-256(0x01 ‖ left ‖ right)` (RFC 6962 §2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // Why one buffer: 65 bytes in one call hash faster than three updates.
    let mut buffer = [1; 65];
    let (_, pair) = buffer.split_at_mut(1);
    for (to, from) in pair.iter_mut().zip(left.iter().chain(right)) {
        *to = *from;
    }
    Sha256::digest(buffer).into()
}

/// The root of the tree without leaves: `SHA-256("")`.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest(b"").into()
}

/// A node was asked for that is not kept (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node of the tree is not at hand")]
pub struct Forgotten;

/// The right edge of a growing tree.
#[derive(Clone, Default)]
pub struct Tree {
    size: u64,
    levels: Vec<Level>,
}

/// Complete nodes of one height, from index `base` on.
#[derive(Clone, Default)]
struct Level {
    base: u64,
    nodes: VecDeque<Hash>,
}

/// What [`Tree::trim`] leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// What later roots and proofs of later leaves need.
    Peaks,
    /// Also the hashes of the tiles that are not full yet.
    Tiles,
    /// Also every complete node that the tree of this size did not have.
    Since(u64),
}

impl Tree {
    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds one leaf.
    ///
    /// # Errors
    /// [`Forgotten`] never, as long as [`Tree::trim`] keeps its invariant.
    pub fn push(&mut self, leaf: Hash) -> Result<(), Forgotten> {
        let (mut hash, mut index, mut height) = (leaf, self.size, 0);
        loop {
            if self.levels.len() == height {
                self.levels.push(Level::default());
            }
            let level = self.levels.get_mut(height).ok_or(Forgotten)?;
            level.nodes.push_back(hash);
            if index & 1 == 0 {
                break;
            }
            let left = level.node(index - 1).ok_or(Forgotten)?;
            hash = node_hash(left, &hash);
            index >>= 1;
            height += 1;
        }
        self.size += 1;
        Ok(())
    }

    /// The root over all leaves.
    ///
    /// # Errors
    /// [`Forgotten`] never, as long as [`Tree::trim`] keeps its invariant.
    pub fn root(&self) -> Result<Hash, Forgotten> {
        if self.size == 0 {
            return Ok(empty_root());
        }
        range_root(0, self.size, &mut |height, index| self.node(height, index))
    }

    /// The inclusion path of leaf `index` in the whole tree, from the leaf's sibling upwards.
    ///
    /// # Errors
    /// [`Forgotten`] for a leaf from before the last [`Tree::trim`], or none at all.
    pub fn path(&self, index: u64) -> Result<Vec<Hash>, Forgotten> {
        if index >= self.size {
            return Err(Forgotten);
        }
        inclusion_path(index, self.size, &mut |height, index| {
            self.node(height, index)
        })
    }

    /// The first `width` hashes of tile `index` at tile level `level`, concatenated.
    ///
    /// # Errors
    /// [`Forgotten`] if one of them is not kept.
    pub fn tile(&self, level: u8, index: u64, width: u64) -> Result<Vec<u8>, Forgotten> {
        let height = u32::from(level) * 8;
        let first = index * TILE_WIDTH;
        let mut bytes = Vec::with_capacity(8192);
        for at in first..first + width {
            bytes.extend_from_slice(&self.node(height, at)?);
        }
        Ok(bytes)
    }

    /// Lets go of every node that a tree growing from its present size will not ask for again.
    // INVARIANT: at each height the last node of an odd count (a peak) stays, or `push` could not go on.
    pub fn trim(&mut self, keep: Keep) {
        for (height, level) in self.levels.iter_mut().enumerate() {
            let count = self.size.checked_shr(height as u32).unwrap_or(0);
            let from = match keep {
                Keep::Tiles if height % 8 == 0 => count & !(TILE_WIDTH - 1),
                Keep::Since(size) => (count & !1).min(size.checked_shr(height as u32).unwrap_or(0)),
                Keep::Tiles | Keep::Peaks => count & !1,
            };
            while level.base < from && level.nodes.pop_front().is_some() {
                level.base += 1;
            }
        }
    }

    /// The complete node of that height and index.
    ///
    /// # Errors
    /// [`Forgotten`] if it is not kept.
    pub fn node(&self, height: u32, index: u64) -> Result<Hash, Forgotten> {
        let level = usize::try_from(height).ok();
        let level = level.and_then(|height| self.levels.get(height));
        level
            .and_then(|level| level.node(index))
            .copied()
            .ok_or(Forgotten)
    }
}

impl Level {
    fn node(&self, index: u64) -> Option<&Hash> {
        let at = usize::try_from(index.checked_sub(self.base)?).ok()?;
        self.nodes.get(at)
    }
}

/// Says the hash of the complete subtree of that height and index.
pub type Nodes<'a, E> = dyn FnMut(u32, u64) -> Result<Hash, E> + 'a;

/// The largest power of two below `count` (at least 2).
fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// `MTH(D[from:to])` of RFC 6962 §2.1 for `from < to`, `from` aligned as in the RFC's own recursion.
///
/// # Errors
/// What `nodes` says.
pub fn range_root<E>(from: u64, to: u64, nodes: &mut Nodes<'_, E>) -> Result<Hash, E> {
    let count = to - from;
    if count.is_power_of_two() {
        let height = count.trailing_zeros();
        return nodes(height, from >> height);
    }
    let middle = from + split(count);
    let left = range_root(from, middle, nodes)?;
    let right = range_root(middle, to, nodes)?;
    Ok(node_hash(&left, &right))
}

/// `PATH(index, D[size])` of RFC 6962 §2.1.1; `index < size`.
///
/// # Errors
/// What `nodes` says.
pub fn inclusion_path<E>(index: u64, size: u64, nodes: &mut Nodes<'_, E>) -> Result<Vec<Hash>, E> {
    let (mut from, mut to) = (0, size);
    let mut downwards = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            downwards.push(range_root(middle, to, nodes)?);
            to = middle;
        } else {
            downwards.push(range_root(from, middle, nodes)?);
            from = middle;
        }
    }
    downwards.reverse();
    Ok(downwards)
}

/// `PROOF(old, D[size])` of RFC 6962 §2.1.2; `0 < old <= size`.
///
/// # Errors
/// What `nodes` says.
pub fn consistency_path<E>(old: u64, size: u64, nodes: &mut Nodes<'_, E>) -> Result<Vec<Hash>, E> {
    let (mut from, mut to, mut known) = (0, size, true);
    let mut downwards = Vec::new();
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            downwards.push(range_root(middle, to, nodes)?);
            to = middle;
        } else {
            downwards.push(range_root(from, middle, nodes)?);
            from = middle;
            known = false;
        }
    }
    if !known {
        downwards.push(range_root(from, to, nodes)?);
    }
    downwards.reverse();
    Ok(downwards)
}

/// Whether `path` shows `leaf` at `index` of the tree of `size` leaves with that root (RFC 9162 §2.1.3.2).
#[must_use]
pub fn proves_inclusion(index: u64, size: u64, leaf: &Hash, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `path` shows that the tree of `old` leaves is a prefix of the tree of `size` (RFC 9162 §2.1.4.2).
/// `old` is at least 1: "no earlier checkpoint" needs no proof and gets none.
#[must_use]
pub fn proves_consistency(
    old: u64,
    size: u64,
    old_root: &Hash,
    root: &Hash,
    path: &[Hash],
) -> bool {
    if old == 0 || old > size {
        return false;
    }
    if old == size {
        return path.is_empty() && old_root == root;
    }
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let mut rest = path.iter();
    // Why: a power of two is a complete subtree, so its root is the start and is left out of the proof.
    let start = if old.is_power_of_two() {
        Some(old_root)
    } else {
        rest.next()
    };
    let Some(start) = start else { return false };
    let (mut old_hash, mut hash) = (*start, *start);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && hash == *root
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::Value;
    use std::path::{Path, PathBuf};

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    /// The RFC's definition, word for word.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let k = many.len().next_power_of_two() / 2;
                node_hash(&mth(&many[..k]), &mth(&many[k..]))
            }
        }
    }

    #[test]
    fn roots_and_proofs_are_those_of_the_rfc_at_every_size() {
        let all = leaves(70);
        let mut tree = Tree::default();
        let mut roots = vec![tree.root().unwrap()];
        for (i, leaf) in all.iter().enumerate() {
            tree.push(*leaf).unwrap();
            roots.push(tree.root().unwrap());
            assert_eq!(roots[i + 1], mth(&all[..=i]));
        }
        for size in 1..=all.len() {
            let mut tree = Tree::default();
            all[..size]
                .iter()
                .for_each(|leaf| tree.push(*leaf).unwrap());
            for at in 0..size {
                let (path, i, n) = (tree.path(at as u64).unwrap(), at as u64, size as u64);
                assert!(proves_inclusion(i, n, &all[at], &path, &roots[size]));
                assert!(!proves_inclusion(i + 1, n, &all[at], &path, &roots[size]) || size == 1);
                let mut nodes = |h: u32, i: u64| tree.node(h, i);
                let path = consistency_path(i + 1, n, &mut nodes).unwrap();
                let (old, new) = (&roots[at + 1], &roots[size]);
                assert!(proves_consistency(i + 1, n, old, new, &path));
                assert!(!proves_consistency(i + 1, n, &all[at], new, &path) || at == 0);
            }
        }
        assert!(!proves_consistency(0, 5, &roots[0], &roots[5], &[]));
        assert_eq!(tree.path(70), Err(Forgotten));
    }

    #[test]
    fn a_trimmed_tree_goes_on_and_proves_what_came_after() {
        let all = leaves(700);
        for keep in [Keep::Peaks, Keep::Tiles] {
            let (mut whole, mut edge) = (Tree::default(), Tree::default());
            let mut before = 0;
            for (at, leaf) in all.iter().enumerate() {
                whole.push(*leaf).unwrap();
                edge.push(*leaf).unwrap();
                if at % 37 == 0 {
                    assert_eq!(edge.root(), whole.root());
                    for i in before..edge.size() {
                        assert_eq!(edge.path(i), whole.path(i));
                    }
                    edge.trim(keep);
                    before = edge.size();
                }
            }
            edge.trim(keep);
            let kept: usize = edge.levels.iter().map(|level| level.nodes.len()).sum();
            assert!(kept < 10 + 2 * 256, "{kept}");
            if keep == Keep::Tiles {
                assert_eq!(edge.tile(0, 2, 188), whole.tile(0, 2, 188));
                assert_eq!(edge.tile(1, 0, 2), whole.tile(1, 0, 2));
                assert_eq!(edge.tile(1, 0, 3), Err(Forgotten));
            }
            assert_eq!(edge.tile(0, 0, 1), Err(Forgotten));
            assert_eq!(edge.path(0), Err(Forgotten));
        }
    }

    fn vectors(of: &str) -> Vec<(PathBuf, Value)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/merkle");
        let mut found = Vec::new();
        let mut folders = vec![root.join(of)];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                eprintln!("SKIPPED: no vectors at {}", folder.display());
                return Vec::new();
            };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = std::fs::read(&path).unwrap();
                    found.push((path, serde_json::from_slice(&text).unwrap()));
                }
            }
        }
        assert!(found.len() >= 90, "{}", found.len());
        found
    }

    /// `None` for the dummies that are no hashes: they cannot be written in our types.
    fn hash(value: &Value) -> Option<Hash> {
        STANDARD.decode(value.as_str()?).ok()?.try_into().ok()
    }

    fn hashes(value: &Value) -> Option<Vec<Hash>> {
        value
            .as_array()
            .map_or(Some(Vec::new()), |list| list.iter().map(hash).collect())
    }

    #[test]
    fn public_inclusion_vectors() {
        for (path, case) in vectors("inclusion") {
            let holds = (|| {
                let (index, size) = (case["leafIdx"].as_u64()?, case["treeSize"].as_u64()?);
                let (leaf, root) = (hash(&case["leafHash"])?, hash(&case["root"])?);
                let proof = hashes(&case["proof"])?;
                Some(proves_inclusion(index, size, &leaf, &proof, &root))
            })();
            let wanted = !case["wantErr"].as_bool().unwrap();
            assert_eq!(holds.unwrap_or(false), wanted, "{}", path.display());
        }
    }

    #[test]
    fn public_consistency_vectors() {
        for (path, case) in vectors("consistency") {
            let (old, size) = (case["size1"].as_u64(), case["size2"].as_u64());
            if old == Some(0) {
                continue; // Why: what a proof from nothing means differs between implementations; we ask for none.
            }
            let holds = (|| {
                let (old_root, root) = (hash(&case["root1"])?, hash(&case["root2"])?);
                let proof = hashes(&case["proof"])?;
                Some(proves_consistency(old?, size?, &old_root, &root, &proof))
            })();
            // Why `wanted` is met by equal sizes with a dummy root: it is no hash, so it is refused here.
            let wanted = !case["wantErr"].as_bool().unwrap();
            let dummy = hash(&case["root1"]).is_none();
            assert!(
                holds.unwrap_or(false) == wanted || dummy,
                "{}",
                path.display()
            );
        }
    }
}
