// Beside the calls: what is known of one call, or of the session.

import {html, useEffect, useMemo, useState} from './htm-preact.js';
import {load, sessionPath} from './api.js';
import {duration, labelOf, lines, number, plain} from './format.js';
import {Badge, Mark, Problem} from './parts.js';
import {Conversation, conversationOf, Shown, Usage, usageOf} from './values.js';

const PATH = 8;
const NODES = 30;

const CallButton = ({calls, place, choose, children}) => html`<button type="button" class="call-link" onClick=${() => choose(place)}><${Mark} status=${calls.statusOf(place)} /><span class="name">${plain(calls.nameOf(place))}</span>${calls.given[place] && html`<span class="given">${plain(calls.given[place])}</span>`}<span class="digits">${children}</span></button>`;

const ErrorPart = ({error}) => html`<section class="part"><h3>Error</h3><div class="error-text"><strong>${plain(error.type)}</strong>${error.message && html`<pre class="code plain">${lines(error.message)}</pre>`}</div>
  ${error.traceback && html`<details open><summary>Traceback</summary><pre class="code">${lines(error.traceback)}</pre></details>`}</section>`;

export function CallPanel({id, session, calls, place, present, version, choose, leave}) {
  const [values, setValues] = useState(null);
  const [problem, setProblem] = useState(null);
  const number_ = calls.id[place];
  const status = calls.statusOf(place);
  // Asked again when the call ends: it has a result then.
  useEffect(() => {
    const stop = new AbortController();
    load(`${sessionPath(id)}/c/${number_}`, stop.signal).then(setValues, error => stop.signal.aborted || setProblem(error.message));
    return () => stop.abort();
  }, [id, number_, status]);
  const messages = useMemo(() => values && conversationOf(values), [values]);
  const usage = useMemo(() => values && usageOf(values), [values]);
  const parent = calls.parent[place];
  const children = useMemo(() => [...calls.children(place)].length, [place, version]);
  return html`<div class="panel-head"><h2><${Mark} status=${status} quiet /><span>${plain(calls.nameOf(place))}</span></h2><button type="button" class="icon" aria-label="Close" title="Close (Esc)" onClick=${leave}>✕</button></div>
    <dl class="facts">
      <div><dt>Status</dt><dd>${labelOf(status)}${calls.replayed.has(place) ? ', replayed' : ''}</dd></div>
      <div><dt>Took</dt><dd>${duration(calls.endOf(place, present) - calls.start[place])}</dd></div>
      <div><dt>Itself</dt><dd>${duration(calls.selfTime(place, present))}</dd></div>
      <div><dt>Began at</dt><dd>${calls.start[place] ? duration(calls.start[place]) : '0'}</dd></div>
      <div><dt>Call</dt><dd>#${number_}</dd></div>
      ${calls.attempt[place] > 1 && html`<div><dt>Attempt</dt><dd>${calls.attempt[place]}</dd></div>`}
      ${children > 0 && html`<div><dt>Calls in it</dt><dd>${number(children)}</dd></div>`}
    </dl>
    ${parent >= 0 && html`<div class="made-in"><span class="note">made in</span><${CallButton} calls=${calls} place=${parent} choose=${choose} /></div>`}
    ${problem && html`<${Problem} text=${problem} />`}
    ${!values && !problem && html`<p class="note" role="status">Loading…</p>`}
    ${values?.error && html`<${ErrorPart} error=${values.error} />`}
    ${usage && html`<section class="part"><h3>Model</h3><${Usage} result=${usage} /></section>`}
    ${messages && html`<section class="part"><h3>Conversation</h3><${Conversation} messages=${messages} /></section>`}
    ${values && html`<section class="part"><h3>Arguments</h3>${!values.args.length && !Object.keys(values.kwargs).length && html`<p class="note">none</p>`}
      ${values.args.map((shown, k) => html`<${Shown} key=${k} shown=${shown} name=${String(k)} />`)}${Object.entries(values.kwargs).map(([name, shown]) => html`<${Shown} key=${`k${name}`} shown=${shown} name=${name} />`)}${values.more > 0 && html`<p class="note">and ${number(values.more)} more</p>`}</section>`}
    ${values && status === 'completed' && html`<section class="part"><h3>Result</h3><${Shown} shown=${values.result} /></section>`}
    ${values && session.status === 'running' && status === 'running' && html`<p class="note">It has no result yet.</p>`}`;
}

export function SessionPanel({session, calls, version, present, choose}) {
  const isRunning = session.status === 'running';
  const marks = [calls, version, isRunning ? Math.floor(present / 1e6) : 0];
  const nodes = useMemo(() => calls.byNode(present), marks);
  const slow = useMemo(() => {
    const path = calls.criticalPath(present).map(place => [place, calls.selfTime(place, present)]);
    return path.sort(([, a], [, b]) => b - a).slice(0, PATH);
  }, marks);
  const whole = Math.max(1, calls.span(present));
  const all = nodes.reduce((sum, each) => sum + each.self, 0) || 1;
  const tokens = useMemo(() => [...calls.tokens.values()].filter(each => each[2]).reduce(([a, b], [x, y]) => [a + x, b + y], [0, 0]), marks);
  return html`<div class="panel-head"><h2>Session</h2></div>
    <dl class="facts">
      <div><dt>Status</dt><dd>${labelOf(session.status)}</dd></div>
      <div><dt>Calls</dt><dd>${number(calls.length)}</dd></div>
      ${session.timeout !== null && html`<div><dt>Timeout</dt><dd>${duration(session.timeout * 1e6)}</dd></div>`}
      ${calls.tokens.size > 0 && html`<div><dt>Tokens</dt><dd>${number(tokens[0])} in, ${number(tokens[1])} out</dd></div>`}
      ${session.context_keys.length > 0 && html`<div class="wide"><dt>Context</dt><dd>${session.context_keys.map(plain).join(', ')}</dd></div>`}
      ${session.left_behind.length > 0 && html`<div class="wide"><dt>Left running</dt><dd>${session.left_behind.map(plain).join(', ')}</dd></div>`}
      <div class="wide"><dt>Identifier</dt><dd class="id">${plain(session.id)}</dd></div>
    </dl>
    ${session.error && session.status !== 'waiting' && html`<${ErrorPart} error=${session.error} />`}
    ${slow.length > 0 && html`<section class="part"><h3>What took the time</h3><p class="note">The calls that the end waited for, by the time they took themselves.</p>
      <ol class="slow">${slow.map(([place, time]) => html`<li key=${place}><${CallButton} calls=${calls} place=${place} choose=${choose}>${duration(time)}</${CallButton}><span class="meter" aria-hidden="true"><i style=${{width: `${Math.min(100, (time / whole) * 100)}%`}} /></span></li>`)}</ol></section>`}
    ${nodes.length > 0 && html`<section class="part"><h3>By node</h3><table class="nodes"><thead><tr><th scope="col">Node</th><th scope="col">Calls</th><th scope="col">Failed</th><th scope="col">Itself</th></tr></thead>
      <tbody>${nodes.slice(0, NODES).map(each => html`<tr key=${each.node}><td><button type="button" class="call-link" title="The call that took longest" onClick=${() => choose(each.longest)}><span class="name">${plain(calls.names[each.node])}</span></button></td><td class="digits">${number(each.calls)}</td><td class=${each.failed ? 'digits failed-text' : 'digits none'}>${each.failed ? number(each.failed) : '–'}</td><td class="digits">${duration(each.self)}<span class="meter" aria-hidden="true"><i style=${{width: `${(each.self / all) * 100}%`}} /></span></td></tr>`)}</tbody></table>
      ${nodes.length > NODES && html`<p class="note">and ${number(nodes.length - NODES)} more nodes</p>`}</section>`}`;
}
