// Two sessions beside each other: what has changed from the first to the second.

import {html, useEffect, useMemo, useState} from './htm-preact.js';
import {load} from './api.js';
import {duration, labelOf, number, plain, wholeMoment} from './format.js';
import {Badge, Chips, Link, Mark, Problem, useWindow} from './parts.js';
import {sessionAddress} from './sessions.js';

const HEIGHT = 58;

const Side = ({session, name}) => html`<section class="side"><div class="note">${name}</div><h2><${Link} to=${sessionAddress(session.id)}>${plain(session.name ?? session.flow ?? session.id)}</${Link}></h2>
  <${Badge} status=${session.status} /> <span class="note">${wholeMoment(session.started)}${session.ended !== null ? ` · ${duration((session.ended - session.started) * 1000)}` : ''}</span>
  ${session.error && html`<p class="failed-text">${plain(session.error.type.split('.').pop())}: ${plain(session.error.message)}</p>`}</section>`;

const Call = ({id, side}) => (side ? html`<span class="one"><${Link} to=${`${sessionAddress(id)}/c/${side.id}`}><${Mark} status=${side.status} quiet />${labelOf(side.status)}</${Link}><span class="digits">${side.seconds === null ? '' : duration(side.seconds * 1e6)}</span>${side.error && html`<span class="failed-text error">${plain(side.error)}</span>`}</span>` : html`<span class="one note">not there</span>`);

const change = ({before, after}) => {
  if (!before?.seconds || after?.seconds === null || after === null) return '';
  const part = after.seconds / before.seconds;
  return part >= 1.2 ? `${part >= 10 ? part.toFixed(0) : part.toFixed(1)}× as long` : part <= 0.8 ? `${Math.round(100 - part * 100)} % shorter` : '';
};

function Changes({rows, before, after}) {
  const view = useWindow(rows.length, HEIGHT);
  return html`<div class="scroll" ref=${view.box} tabindex="0" role="list" aria-label="Calls that differ"><div class="pad" style=${{height: `${rows.length * HEIGHT}px`}}>
    ${rows.slice(view.from, view.to).map((row, k) => html`<div key=${view.slot(view.from + k)} role="listitem" class="change" style=${{top: `${(view.from + k) * HEIGHT}px`, height: `${HEIGHT}px`}}>
      <span class="where"><span class="name">${plain(row.path.at(-1))}</span><span class="note">${row.path.slice(0, -1).map(plain).join(' › ')}</span></span>
      <span class="how">${row.changed.map(each => html`<span key=${each} class="tag">${each}</span>`)}${change(row) && html`<span class="note">${change(row)}</span>`}</span>
      <${Call} id=${before} side=${row.before} /><${Call} id=${after} side=${row.after} /></div>`)}</div></div>`;
}

export function Diff({before, after, setTrail}) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState(null);
  const [kind, setKind] = useState('');
  useEffect(() => {
    setTrail(html`<span aria-hidden="true">/</span><span aria-current="page">Comparison</span>`);
    document.title = 'Comparison · Railtracks';
    const stop = new AbortController();
    load(`api/diff?${new URLSearchParams({before, after})}`, stop.signal).then(setFound, error => stop.signal.aborted || setProblem(error.message));
    return () => stop.abort();
  }, [before, after]);
  const kinds = useMemo(() => {
    const counts = new Map();
    for (const row of found?.rows ?? []) for (const each of row.changed) counts.set(each, (counts.get(each) ?? 0) + 1);
    return [...counts].map(([value, count]) => ({value, text: value, count}));
  }, [found]);
  const rows = useMemo(() => (found?.rows ?? []).filter(row => !kind || row.changed.includes(kind)), [found, kind]);
  if (!found) return html`<main class="diff">${problem ? html`<${Problem} text=${problem} />` : html`<p class="empty" role="status">Loading…</p>`}</main>`;
  return html`<main class="diff"><div class="head"><h1>Comparison</h1><span class="note" role="status">${found.differing ? `${number(found.differing)} calls differ` : 'no call differs'}, ${number(found.same)} are in both</span></div>
    <div class="sides"><${Side} session=${found.before} name="Before" /><${Side} session=${found.after} name="After" /></div>
    <div class="filters"><${Chips} label="What differs" chosen=${kind} choose=${setKind} choices=${kinds} /></div>
    ${found.differing > found.rows.length && html`<${Problem} text=${`The first ${number(found.rows.length)} are shown.`} />`}
    <${Changes} rows=${rows} before=${before} after=${after} />
  </main>`;
}
