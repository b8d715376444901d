// The list of sessions: searched and filtered by the address, the newest on top, kept fresh while it is seen.

import {html, useEffect, useMemo, useRef, useState} from './htm-preact.js';
import {encoded, loadChanged} from './api.js';
import {duration, labelOf, moment, number, placeOf, plain, wholeMoment} from './format.js';
import {Chips, go, Link, Mark, Problem, useKeys, useMedia, useVisible, useWindow} from './parts.js';

const AGES = [['', 'any time'], ['1h', 'last hour'], ['12h', 'last 12 hours'], ['24h', 'last 24 hours'], ['7d', 'last 7 days'], ['30d', 'last 30 days']];
const HOURS = {h: 1, d: 24};
// Milliseconds between two looks at the list, and how much longer than a look they are at least.
const LOOK = 1500;
const TIMES = 5;

export const sessionAddress = id => `s/${encoded(id)}`;

// The list as the server has it, again and again while the page is seen.
function useList() {
  const [list, setList] = useState(null);
  const [problem, setProblem] = useState(null);
  const isVisible = useVisible();
  const tag = useRef(null);
  useEffect(() => {
    if (!isVisible) return undefined;
    const stop = new AbortController();
    let timer;
    const look = async () => {
      const began = performance.now();
      let pause = LOOK;
      try {
        const changed = await loadChanged('api/sessions', tag.current, stop.signal);
        if (changed) {
          tag.current = changed.tag;
          setList(changed.content);
        }
        setProblem(null);
        pause = Math.max(LOOK, TIMES * (performance.now() - began));
      } catch (error) {
        if (stop.signal.aborted) return;
        setProblem(error.message);
        if (error.status === 401) return;
      }
      timer = setTimeout(look, pause);
    };
    look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [isVisible]);
  return {list, problem};
}

const since = age => {
  const found = /^(\d+)([hd])$/.exec(age);
  return found ? Date.now() - Number(found[1]) * HOURS[found[2]] * 3_600_000 : -Infinity;
};

function filtered(sessions, query) {
  const text = (query.get('q') ?? '').toLowerCase();
  const status = query.get('status') ?? '';
  const flow = query.get('flow') ?? '';
  const from = since(query.get('since') ?? '');
  const counts = new Map();
  const rows = [];
  for (let row = 0; row < sessions.id.length; row++) {
    if (flow && sessions.flow[row] !== flow) continue;
    if (from !== -Infinity && !(sessions.started[row] >= from)) continue;
    if (text && ![sessions.id[row], sessions.name[row], sessions.flow[row], sessions.error[row]].some(each => each?.toLowerCase().includes(text))) continue;
    counts.set(sessions.status[row], (counts.get(sessions.status[row]) ?? 0) + 1);
    if (!status || sessions.status[row] === status) rows.push(row);
  }
  return {rows, counts};
}

const titleOf = (sessions, row) => plain(sessions.name[row] ?? sessions.flow[row] ?? sessions.id[row]);
const tookOf = (sessions, row) => {
  const [from, to] = [sessions.started[row], sessions.ended[row]];
  if (from === null) return '';
  if (to !== null) return duration((to - from) * 1000);
  return sessions.status[row] === 'running' ? duration((Date.now() - from) * 1000) : '';
};
const ORIGINS = {store: 'store', state: 'file', events: 'events'};

const Row = ({sessions, row, place, height, isHere, chosen, choose}) => {
  const id = sessions.id[row];
  const error = sessions.error[row];
  const waits = sessions.waits[row];
  const elsewhere = sessions.elsewhere[row];
  return html`<div class="session" role="row" id=${`session-${row}`} aria-rowindex=${place + 2} aria-selected=${isHere} style=${{top: `${place * height}px`, height: `${height}px`}}>
    <span role="cell" class="pick"><input type="checkbox" aria-label="Compare ${titleOf(sessions, row)}" checked=${chosen.includes(id)} onChange=${() => choose(id)} /></span>
    <span role="cell" class="status"><${Mark} status=${sessions.status[row]} quiet /><span class="label">${labelOf(sessions.status[row])}${elsewhere ? '?' : ''}</span></span>
    <span role="cell" class="what"><${Link} to=${sessionAddress(id)} class="title">${titleOf(sessions, row)}</${Link}>
      <span class="detail">${waits.length ? `waits for ${waits.map(plain).join(', ')}` : error ? html`<span class=${sessions.status[row] === 'cancelled' ? '' : 'failed-text'}>${plain(error)}</span>` : elsewhere ? placeOf(elsewhere) : html`${sessions.name[row] && sessions.flow[row] ? `${plain(sessions.flow[row])} · ` : ''}<span class="id">${plain(id)}</span>`}</span></span>
    <span role="cell" class="count">${number(sessions.calls[row])}</span>
    <span role="cell" class="from">${sessions.from[row].map(each => ORIGINS[each]).join(' + ')}</span>
    <span role="cell" class="took">${tookOf(sessions, row)}</span>
    <time role="cell" class="when" title=${wholeMoment(sessions.started[row])}>${moment(sessions.started[row])}</time>
  </div>`;
};

export function Sessions({query, setTrail}) {
  const {list, problem} = useList();
  const isNarrow = useMedia('(max-width: 720px)');
  const height = isNarrow ? 66 : 46;
  const search = useRef(null);
  const [here, setHere] = useState(0);
  const [chosen, setChosen] = useState([]);
  const {rows, counts} = useMemo(() => (list ? filtered(list.sessions, query) : {rows: [], counts: new Map()}), [list, query.toString()]);
  const flows = useMemo(() => [...new Set(list?.sessions.flow.filter(Boolean))].sort(), [list]);
  const view = useWindow(rows.length, height);
  useEffect(() => {
    setTrail(null);
    document.title = 'Sessions · Railtracks';
  }, []);
  const ask = changes => {
    const next = new URLSearchParams(query);
    for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
    go(next.size ? `?${next}` : '', {replace: true});
    setHere(0);
  };
  const move = by => {
    const next = Math.max(0, Math.min(rows.length - 1, here + by));
    setHere(next);
    view.show(next);
  };
  const choose = id => setChosen(chosen.includes(id) ? chosen.filter(each => each !== id) : [...chosen.slice(-1), id]);
  // The list begins with the newest: what stands further down is the session before.
  const [after, before] = [...chosen].sort((a, b) => list.sessions.id.indexOf(a) - list.sessions.id.indexOf(b));
  useKeys(
    {
      '/': () => search.current.focus(),
      Escape: () => search.current.blur(),
      ArrowDown: () => move(1), ArrowUp: () => move(-1), j: () => move(1), k: () => move(-1),
      PageDown: () => move(10), PageUp: () => move(-10), Home: () => move(-rows.length), End: () => move(rows.length),
      Enter: event => (event.target.closest?.('a, button, input') || here >= rows.length ? false : go(sessionAddress(list.sessions.id[rows[here]]))),
    },
    [rows, here],
  );
  const filters = html`<div class="filters">
    <input ref=${search} type="search" aria-label="Search names, identifiers and errors" placeholder="Search names, identifiers and errors" value=${query.get('q') ?? ''} onInput=${event => ask({q: event.target.value})} />
    <select aria-label="Flow" value=${query.get('flow') ?? ''} onChange=${event => ask({flow: event.target.value})}><option value="">all flows</option>${flows.map(flow => html`<option key=${flow} value=${flow}>${plain(flow)}</option>`)}</select>
    <select aria-label="Begun" value=${query.get('since') ?? ''} onChange=${event => ask({since: event.target.value})}>${AGES.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}</select>
    <${Chips} label="Status" chosen=${query.get('status') ?? ''} choose=${status => ask({status})} choices=${[...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([status, count]) => ({value: status, text: labelOf(status), status, count}))} />
  </div>`;
  return html`<main class="list">
    <div class="head"><h1>Sessions</h1><span class="note" role="status">${list ? `${number(rows.length)}${rows.length === list.sessions.id.length ? '' : ` of ${number(list.sessions.id.length)}`}` : 'loading…'}</span></div>
    ${filters}
    ${problem && html`<${Problem} text=${problem} />`}
    ${list?.problems.length > 0 && html`<details class="problem"><summary>${number(list.problems.length)} could not be read</summary><ul>${list.problems.slice(0, 100).map(text => html`<li key=${text}>${plain(text)}</li>`)}</ul></details>`}
    <div class="table" role="table" aria-label="Sessions" aria-rowcount=${rows.length + 1}>
      <div class="session header" role="row"><span role="columnheader" class="pick"></span><span role="columnheader" class="status">Status</span><span role="columnheader" class="what">Session</span><span role="columnheader" class="count">Calls</span><span role="columnheader" class="from">Kept in</span><span role="columnheader" class="took">Took</span><span role="columnheader" class="when">Begun</span></div>
      <div class="scroll" ref=${view.box} tabindex="0" role="rowgroup" aria-label="Sessions, the newest first">
        <div class="pad" style=${{height: `${rows.length * height}px`}}>${list && rows.slice(view.from, view.to).map((row, k) => html`<${Row} key=${list.sessions.id[row]} sessions=${list.sessions} row=${row} place=${view.from + k} height=${height} isHere=${view.from + k === here} chosen=${chosen} choose=${choose} />`)}</div>
        ${list && !rows.length && html`<div class="empty">${list.sessions.id.length ? html`<p>No session fits.</p><button type="button" class="button" onClick=${() => go('', {replace: true})}>Show all</button>` : html`<p>No sessions yet. Run a flow, and it appears here.</p>`}</div>`}
      </div>
    </div>
    ${chosen.length > 0 && html`<div class="compare" role="status"><span>${chosen.length === 1 ? 'Choose a second session to compare.' : 'Two sessions chosen.'}</span>
      ${chosen.length === 2 && html`<${Link} class="button primary" to=${`diff/${encoded(before)}/${encoded(after)}`}>Compare</${Link}>`}
      <button type="button" class="button" onClick=${() => setChosen([])}>Clear</button></div>`}
  </main>`;
}
