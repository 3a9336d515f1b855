// Plain words for what a leaf says: events, outcomes, alerts, moments. A word the page does not know is shown as it stands.

/** What happened, and to which group it belongs. */
const EVENTS = {
  "token.issue": ["Access asked for and permitted", "access"],
  "token.refuse": ["Access asked for and refused", "access"],
  "token.revoke": ["Access given back early", "access"],
  "record.release": ["Records given out", "access"],
  "record.refuse": ["Records asked for and refused", "access"],
  "caller.refuse": ["A caller was not believed", "access"],
  "record.deposit": ["Records filed", "filing"],
  "record.withdraw": ["A record withdrawn", "filing"],
  "deposit.refuse": ["Filing refused", "filing"],
  "withdraw.refuse": ["Withdrawal refused", "filing"],
  "facts.change": ["A decision about sharing passed on", "sharing"],
  "facts.state": ["A statement about sharing changed", "sharing"],
  "facts.read": ["Statements about sharing read", "sharing"],
  "facts.refuse": ["A change about sharing refused", "sharing"],
  "facts.load": ["Statements loaded", "sharing"],
  "objections.pass": ["Objections passed on", "sharing"],
  "objections.refuse": ["Objections not taken", "sharing"],
  "log.read": ["The log was looked at", "looks"],
  "log.refuse": ["A look at the log refused", "looks"],
  "review.close": ["A review closed", "reviews"],
  "review.refuse": ["A review refused", "reviews"],
  "review.raise": ["A review asked for", "reviews"],
  "alarm.raise": ["Alarm raised", "reviews"],
  "alarm.clear": ["Alarm ended", "reviews"],
  notice: ["Notice given", "reviews"],
  "alert.delivered": ["Alert delivered", "reviews"],
  "admin.act": ["Administration", "administration"],
  "admin.propose": ["Administration: proposed", "administration"],
  "admin.approve": ["Administration: approved by a second person", "administration"],
  "admin.refuse": ["Administration refused", "administration"],
  "admin.unfit": ["Administration: not possible", "administration"],
  "key.announced": ["Key announced", "keys"],
  "key.activated": ["Key taken into use", "keys"],
  "key.retired": ["Key retired", "keys"],
  "key.destroyed": ["Key destroyed", "keys"],
  "kek.rotated": ["Key rotation finished", "keys"],
  "log.key": ["The log’s key handed over", "keys"],
  "patient.erase": ["Erasure of a patient’s records asked for", "keys"],
  "patient.erased": ["A patient’s records erased", "keys"],
  "log.genesis": ["The log was founded", "gateway"],
  "gateway.start": ["Gateway started", "gateway"],
  "gateway.stop": ["Gateway stopped", "gateway"],
  "gateway.restored": ["Gateway put back from a backup", "gateway"],
  "backup.taken": ["Backup taken", "gateway"],
  "backup.acknowledged": ["Restored backup acknowledged", "gateway"],
  heartbeat: ["Heartbeat", "gateway"],
};

/** Groups of events, in the order in which they are offered. */
export const GROUPS = {
  access: "Access to records",
  filing: "Records filed and withdrawn",
  sharing: "Objections, agreements, relationships",
  reviews: "Alarms and reviews",
  looks: "Looks at the log",
  administration: "Administration",
  keys: "Keys and erasure",
  gateway: "The gateway itself",
};

const ALERTS = {
  "break-glass": "Emergency declared",
  "break-glass.cap": "Too many emergencies declared",
  review: "Access to be explained",
};

const MARKS = {
  emergency: "emergency declared",
  cap: "more emergencies than may be",
  asserted: "only the hospital states the relationship",
  volume: "many more patients than usual",
  "out-of-hours": "outside usual hours",
};

export const eventWords = (event) => EVENTS[event]?.[0] ?? event;
export const groupOf = (event) => EVENTS[event]?.[1] ?? "gateway";
export const events = () => Object.keys(EVENTS);
export const alertWords = (alert) => ALERTS[alert] ?? alert;
export const markWords = (mark) => MARKS[mark] ?? mark;
export const outcomeWords = (outcome) => ({ permit: "Permitted", refuse: "Refused" })[outcome] ?? "";

const MOMENT = new Intl.DateTimeFormat("en-GB", {
  timeZone: "Europe/London", day: "numeric", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
});

/** A moment as nobody can misread it: 22 Nov 2026, 06:12:57 GMT. */
export const moment = (ms) => (Number.isFinite(ms) ? MOMENT.format(ms) : "time not stated");

export const count = (number) => number.toLocaleString("en-GB");

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** How long ago, or how long: the largest unit that says enough. */
export function duration(ms) {
  const minutes = Math.floor(ms / 60000);
  if (minutes < 1) return "less than a minute";
  if (minutes < 120) return plural(minutes, "minute");
  if (minutes < 48 * 60) return plural(Math.floor(minutes / 60), "hour");
  return plural(Math.floor(minutes / 1440), "day");
}
