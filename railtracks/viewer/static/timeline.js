// Calls against time: the strip of the whole run, the axis, and the bar of one call.

import {html, useEffect, useRef} from './htm-preact.js';
import {duration} from './format.js';

const MARGIN = 0.02;
// Steps that people count in, in seconds, from half a minute on; shorter ones are decimal.
const CLOCK = [30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
const DECIMAL = [1, 2, 5, 10];

// Round steps between two times, at most so many.
export function ticks([from, to], most) {
  const least = (to - from) / most;
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-3)));
  const day = CLOCK.at(-1) * 1e6;
  const step = least <= 2e7 ? power * DECIMAL.find(each => each * power >= least) : (CLOCK.find(each => each * 1e6 >= least) ?? Math.ceil(least / day) * day / 1e6) * 1e6;
  const found = [];
  for (let time = Math.ceil(from / step) * step; time <= to && found.length <= most + 1; time += step) found.push(time);
  return found;
}

// The time that the rows in view need. A call whose children are in view may begin before it and end after it.
export function rangeOf(calls, rows, present, whole) {
  let [from, to] = [Infinity, -Infinity];
  rows.forEach((place, k) => {
    if (calls.parent[rows[k + 1]] === place) return;
    from = Math.min(from, calls.start[place]);
    to = Math.max(to, calls.endOf(place, present));
  });
  if (from > to) return [0, whole];
  const margin = Math.max(1, (to - from) * MARGIN);
  return [Math.max(0, from - margin), Math.min(whole, to + margin)];
}

export const Axis = ({range, most}) => {
  const [from, to] = range;
  return html`<div class="axis" aria-hidden="true">${ticks(range, most).map(time => html`<span key=${time} class="tick" style=${{left: `${((time - from) / (to - from)) * 100}%`}}>${time - from <= 0.9 * (to - from) && html`<span>${time === 0 ? '0' : duration(time)}</span>`}</span>`)}</div>`;
};

export const Grid = ({range, most}) => {
  const [from, to] = range;
  return html`<div class="grid" aria-hidden="true">${ticks(range, most).map(time => html`<i key=${time} style=${{left: `${((time - from) / (to - from)) * 100}%`}} />`)}</div>`;
};

export const Bar = ({calls, place, range, present, kind}) => {
  const [from, to] = range;
  const width = to - from;
  const [start, end] = [calls.start[place], calls.endOf(place, present)];
  const left = Math.max(0, (start - from) / width);
  const right = Math.min(1, (end - from) / width);
  if (left >= 1 || right <= 0) return html`<span class=${left >= 1 ? 'beyond after' : 'beyond before'} />`;
  const isLate = right > 0.82;
  return html`<span class=${`run ${kind}${start < from ? ' cut-left' : ''}${end > to ? ' cut-right' : ''}${calls.hasChildren(place) ? ' outer' : ''}${calls.replayed.has(place) ? ' replayed' : ''}`} style=${{left: `${left * 100}%`, width: `${Math.max(0, right - left) * 100}%`}} />
    <span class=${isLate ? 'took inner' : 'took'} style=${isLate ? {right: `${Math.max(0, 1 - Math.max(right, left)) * 100}%`} : {left: `${right * 100}%`}}>${duration(end - start)}</span>`;
};

// The whole run: how many calls ran at each time, where calls failed, and the part that is shown below. A drag chooses
// another part.
export function Overview({calls, version, present, whole, range, choose}) {
  const canvas = useRef(null);
  const drag = useRef(null);
  useEffect(() => {
    const element = canvas.current;
    const draw = () => {
      const ratio = devicePixelRatio;
      const [width, height] = [element.clientWidth, element.clientHeight];
      element.width = width * ratio;
      element.height = height * ratio;
      const pen = element.getContext('2d');
      pen.scale(ratio, ratio);
      const style = getComputedStyle(element);
      const parts = Math.max(1, Math.floor(width / 2));
      const {running, failures} = calls.density(parts, whole, present);
      const most = Math.max(1, running.reduce((a, b) => Math.max(a, b), 0));
      pen.fillStyle = style.getPropertyValue('--density');
      pen.beginPath();
      pen.moveTo(0, height);
      for (let part = 0; part < parts; part++) {
        const level = running[part] ? 3 + (running[part] / most) * (height - 12) : 0;
        pen.lineTo((part / parts) * width, height - level);
        pen.lineTo(((part + 1) / parts) * width, height - level);
      }
      pen.lineTo(width, height);
      pen.fill();
      pen.fillStyle = style.getPropertyValue('--failed');
      for (let part = 0; part < parts; part++) if (failures[part]) pen.fillRect((part / parts) * width, 0, 2, 6);
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    const themed = new MutationObserver(draw);
    themed.observe(document.documentElement, {attributeFilter: ['data-theme']});
    scheme.addEventListener('change', draw);
    return () => {
      observer.disconnect();
      themed.disconnect();
      scheme.removeEventListener('change', draw);
    };
  }, [calls, version, whole]);
  const timeAt = event => {
    const box = canvas.current.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * whole;
  };
  const move = event => {
    if (drag.current === null) return;
    const at = timeAt(event);
    if (Math.abs(at - drag.current) > whole / 500) choose([Math.min(at, drag.current), Math.max(at, drag.current)]);
  };
  const [from, to] = range;
  return html`<div class="overview" title="Drag to choose a part; double click for the whole run" onPointerDown=${event => {
    event.currentTarget.setPointerCapture(event.pointerId);
    drag.current = timeAt(event);
  }} onPointerMove=${move} onPointerUp=${() => (drag.current = null)} onDblClick=${() => choose(null)}>
    <canvas ref=${canvas} role="img" aria-label="How many calls ran at each time of the run" />
    <div class="shade" style=${{left: 0, width: `${(from / whole) * 100}%`}} /><div class="shade" style=${{left: `${(to / whole) * 100}%`, right: 0}} />
    <div class="frame" style=${{left: `${(from / whole) * 100}%`, width: `${((to - from) / whole) * 100}%`}} />
  </div>`;
}
