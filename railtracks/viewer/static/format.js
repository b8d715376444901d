// Texts for people: times, names, statuses. Nothing here knows of pages.

// What moves a cursor, turns the direction of a text, is seen by nobody, or is half a character. As in `_foreign_text.py`.
const HARMFUL =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]/gu;
const SAME_IN_LINES = /[\n\t]/;

const escaped = found => {
  const code = found.codePointAt(0);
  return code < 0x100
    ? '\\x' + code.toString(16).padStart(2, '0')
    : code < 0x10000
      ? '\\u' + code.toString(16).padStart(4, '0')
      : '\\U' + code.toString(16).padStart(8, '0');
};

// Foreign text in one line, and in several.
export const plain = text => String(text).replace(HARMFUL, escaped);
export const lines = text => String(text).replace(HARMFUL, found => (SAME_IN_LINES.test(found) ? found : escaped(found)));

const digits = (value, unit) => `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ${unit}`;

// A time in microseconds.
export function duration(us) {
  if (us === null || us === undefined || !(us >= 0)) return '';
  if (us < 1) return '0 ms';
  if (us < 999_500) return us < 1000 ? `${us.toFixed(0)} µs` : digits(us / 1e3, 'ms');
  const seconds = us / 1e6;
  if (seconds < 59.95) return digits(seconds, 's');
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, '0')} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 1440
    ? `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} m`
    : `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

export const number = value => (value === null || value === undefined ? '' : value.toLocaleString('en'));

const CLOCK = new Intl.DateTimeFormat(undefined, {hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23'});
const DAY = new Intl.DateTimeFormat(undefined, {month: 'short', day: 'numeric'});
const WHOLE = new Intl.DateTimeFormat(undefined, {
  year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23', timeZoneName: 'short',
});
const isSameDay = (a, b) => a.toDateString() === b.toDateString();

// A moment in milliseconds since 1970: short in a list, whole elsewhere.
export function moment(ms) {
  if (ms === null) return 'not begun';
  const at = new Date(ms);
  return isSameDay(at, new Date()) ? CLOCK.format(at) : `${DAY.format(at)}, ${CLOCK.format(at)}`;
}
export const wholeMoment = ms => (ms === null ? '' : WHOLE.format(new Date(ms)));

// Where a session runs of which this machine cannot know whether its process is gone.
export const placeOf = ({host, heard}) => `on ${plain(host)}${heard === null ? '' : `, last event ${moment(heard)}`}`;

// The marks are told apart by their forms, not by their colours alone.
const MARKS = {
  completed: 'M3.5 8.6 6.6 11.7 12.5 4.8',
  failed: 'M4 4 12 12M12 4 4 12',
  timed_out: 'M8 2.5a5.5 5.5 0 1 0 .01 0M8 5v3.2l2.2 1.4',
  cancelled: 'M8 2.5a5.5 5.5 0 1 0 .01 0M4.2 11.8 11.8 4.2',
  running: 'M8 2.5a5.5 5.5 0 1 0 5.5 5.5',
  waiting: 'M5.8 4v8M10.2 4v8',
  interrupted: 'M9 2.2 4.2 9h3.4l-.8 4.8L11.8 7H8.3z',
  died: 'M2.8 2.8h10.4v10.4H2.8zM5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8',
  lost: 'M6.5 3H3v10h10V9.5M8.5 7.5 13 3M9.5 3H13v3.5',
  unknown: 'M8 2.2 14 13.2H2zM8 6.4v3M8 11.3v.2',
};
const LABELS = {timed_out: 'timed out'};

export const markOf = status => (Object.hasOwn(MARKS, status) ? MARKS[status] : MARKS.unknown);
export const labelOf = status => (Object.hasOwn(LABELS, status) ? LABELS[status] : plain(status));
// The class of a status for the style sheet; a status that is not known has none of its own.
export const kindOf = status => (Object.hasOwn(MARKS, status) ? status : 'unknown');
