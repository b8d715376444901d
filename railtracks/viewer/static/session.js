// One session: what is known of it, its calls as a tree against time, and the call that is looked at.

import {html, useEffect, useMemo, useRef, useState} from './htm-preact.js';
import {follow, load, sessionPath, whileFree} from './api.js';
import {duration, kindOf, labelOf, number, placeOf, plain, wholeMoment} from './format.js';
import {Calls} from './model.js';
import {CallPanel, SessionPanel} from './panel.js';
import {Badge, Chips, go, Link, Mark, Problem, useKeys, useMedia, useVisible, useWindow} from './parts.js';
import {Signals} from './signals.js';
import {sessionAddress} from './sessions.js';
import {Axis, Bar, Grid, Overview, rangeOf} from './timeline.js';

const RECONNECT = 1000;
const POLL = 2000;
const WAIT = 'wait for signal ';
const DRAW = 200;

// The session as the server has it, and then what happens in it while it runs and the page is seen.
function useSession(id) {
  const [state, setState] = useState({data: null, calls: null, version: 0, problem: null});
  const [asked, setAsked] = useState(0);
  const isVisible = useVisible();
  useEffect(() => {
    const stop = new AbortController();
    const rest = time => new Promise(resolve => setTimeout(resolve, time));
    const show = changes => !stop.signal.aborted && setState(before => ({...before, ...changes, version: before.version + 1}));
    const run = async () => {
      let isLoaded = state.calls !== null && asked === 0;
      let {data, calls} = state;
      while (!stop.signal.aborted) {
        try {
          if (!isLoaded) {
            data = await load(sessionPath(id), stop.signal);
            calls = new Calls(data.calls, data.now, ['running', 'waiting'].includes(data.session.status));
            isLoaded = true;
            show({data, calls, problem: null});
          }
          if (data.session.status !== 'running' || !isVisible) return;
          isLoaded = false;
          const isStreamed = await whileFree(async () => {
            for await (const {kind, seq, data: news} of follow(id, data.seq, stop.signal)) {
              if (kind !== 'calls') break;
              calls.apply(news);
              data.seq = seq;
              show({problem: null});
              // What a wait takes is told with the session.
              if (news.some(row => row[2]?.startsWith(WAIT))) break;
            }
          });
          // After the end, a reset or a lost connection the server tells all of it again.
          await rest(isStreamed ? DRAW : POLL);
        } catch (error) {
          if (stop.signal.aborted) return;
          show({problem: error.message});
          if ([401, 404, 422].includes(error.status)) return;
          isLoaded = false;
          await rest(RECONNECT);
        }
      }
    };
    run();
    return () => stop.abort();
  }, [id, isVisible, asked]);
  return {...state, reload: () => setAsked(count => count + 1)};
}

// The present, for the bars of calls that run.
function usePresent(calls, isRunning) {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!isRunning) return undefined;
    const timer = setInterval(() => tick(count => count + 1), DRAW);
    return () => clearInterval(timer);
  }, [isRunning]);
  const settled = useMemo(() => (calls && !calls.isGoingOn ? calls.present() : 0), [calls]);
  return calls?.isGoingOn ? calls.present() : settled;
}

const Row = ({calls, place, at, height, closed, isHere, isMatch, range, present, choose, fold}) => {
  const status = calls.statusOf(place);
  const isOpen = calls.hasChildren(place) ? !closed.has(place) : undefined;
  const attempt = calls.attempt[place];
  const tokens = calls.tokens.get(place);
  const error = calls.errors.get(place);
  return html`<div class=${`row${isMatch ? '' : ' above'}`} role="treeitem" id=${`call-${calls.id[place]}`} aria-level=${calls.depth[place] + 1} aria-selected=${isHere} aria-expanded=${isOpen} style=${{top: `${at * height}px`, height: `${height}px`}} onClick=${() => choose(place)}>
    <span class="cell" style=${{'--depth': Math.min(calls.depth[place], 40)}}>
      ${isOpen === undefined ? html`<span class="leaf" />` : html`<span class="twist" aria-hidden="true" data-open=${isOpen} onClick=${event => {
        event.stopPropagation();
        fold(place);
      }} />`}
      <${Mark} status=${status} /><span class="name">${plain(calls.nameOf(place))}</span>${calls.given[place] && html`<span class="given">${plain(calls.given[place])}</span>`}
      ${attempt > 1 && html`<span class="tag" title="attempt ${attempt}">×${attempt}</span>`}
      ${calls.replayed.has(place) && html`<span class="tag">replayed</span>`}
      ${tokens && html`<span class="tag tokens" title="${tokens[0]} tokens in, ${tokens[1]} out">${number(tokens[0] + tokens[1])} tok</span>`}
      ${error && html`<span class="failed-text error">${plain(error)}</span>`}
    </span>
    <span class="time"><${Bar} calls=${calls} place=${place} range=${range} present=${present} kind=${kindOf(status)} /></span>
  </div>`;
};

function Tree({calls, version, here, status, text, isNarrow, present, zoom, setZoom, choose}) {
  const height = isNarrow ? 40 : 26;
  const [closed, setClosed] = useState(() => new Set());
  const box = useRef(null);
  const fits = useMemo(() => {
    if (!status && !text) return null;
    const wanted = calls.numbers.get(status);
    const names = text ? calls.names.map(name => name.toLowerCase().includes(text.toLowerCase())) : null;
    return place => (!status || calls.status[place] === wanted) && (!names || names[calls.node[place]] || [calls.errors.get(place), calls.given[place]].some(each => each?.toLowerCase().includes(text.toLowerCase())));
  }, [calls, status, text, version]);
  const rows = useMemo(() => calls.rows(closed, fits), [calls, version, closed, fits]);
  const index = useMemo(() => new Map(rows.map((place, at) => [place, at])), [rows]);
  const view = useWindow(rows.length, height);
  const at = here === null ? -1 : (index.get(here) ?? -1);
  const whole = Math.max(1, calls.span(present));
  const range = zoom === 'rows' ? rangeOf(calls, rows.slice(view.first, view.last), present, whole) : zoom === 'whole' ? [0, whole] : zoom;
  const fold = (place, open = closed.has(place)) => {
    const next = new Set(closed);
    open ? next.delete(place) : next.add(place);
    setClosed(next);
  };
  // A call that an address or a link names: what is above it opens, and it comes into view.
  useEffect(() => {
    if (here === null) return;
    const above = [];
    for (let place = calls.parent[here]; place >= 0; place = calls.parent[place]) if (closed.has(place)) above.push(place);
    if (above.length) setClosed(new Set([...closed].filter(place => !above.includes(place))));
    else if (at >= 0) view.show(at);
  }, [here, rows]);
  const move = to => rows.length && choose(rows[Math.max(0, Math.min(rows.length - 1, to))], {quietly: true});
  const failure = by => {
    const failed = calls.numbers.get('failed');
    for (let k = at + by, left = rows.length; left > 0; k += by, left--) {
      const row = (k + rows.length) % rows.length;
      if (calls.status[rows[row]] === failed) return move(row);
    }
    return undefined;
  };
  const scale = by => {
    const middle = (range[0] + range[1]) / 2;
    const half = ((range[1] - range[0]) / 2) * by;
    setZoom([Math.max(0, middle - half), Math.min(whole, middle + half)]);
  };
  const page = Math.max(1, view.last - view.first - 1);
  useKeys(
    {
      ArrowDown: () => move(at + 1), ArrowUp: () => move(Math.max(0, at - 1)), j: () => move(at + 1), k: () => move(Math.max(0, at - 1)),
      PageDown: () => move(at + page), PageUp: () => move(at - page), Home: () => move(0), End: () => move(rows.length),
      ArrowLeft: () => (here === null ? false : calls.hasChildren(here) && !closed.has(here) ? fold(here, false) : calls.parent[here] >= 0 && choose(calls.parent[here], {quietly: true})),
      ArrowRight: () => (here === null || !calls.hasChildren(here) ? false : closed.has(here) ? fold(here, true) : move(at + 1)),
      Enter: event => (event.target.closest?.('a, button, input, summary') || here === null ? false : choose(here)),
      n: () => failure(1), p: () => failure(-1), z: () => setZoom(zoom === 'rows' ? 'whole' : 'rows'),
      '+': () => scale(0.5), '-': () => scale(2), '0': () => setZoom('whole'),
    },
    [rows, at, here, zoom, range, closed],
  );
  const most = isNarrow ? 3 : 7;
  return html`<section class="calls" aria-label="Calls">
    <div class="strip"><div class="cell tools">
        <button type="button" class="tool-button" onClick=${() => setClosed(new Set())} title="Open all calls">Open all</button>
        <button type="button" class="tool-button" onClick=${() => setClosed(new Set(calls.first.flatMap((first, place) => (first >= 0 ? [place] : []))))} title="Close all calls">Close all</button>
        <span class="note" role="status">${fits ? `${number(rows.length)} of ` : ''}${number(calls.length)} ${calls.length === 1 ? 'call' : 'calls'}</span>
      </div><div class="time"><${Overview} calls=${calls} version=${version} present=${present} whole=${whole} range=${range} choose=${part => setZoom(part ?? 'whole')} /></div></div>
    <div class="strip thin"><div class="cell tools"><div class="switch" role="group" aria-label="Time that is shown">
        <button type="button" aria-pressed=${zoom === 'rows'} onClick=${() => setZoom('rows')}>Rows in view</button><button type="button" aria-pressed=${zoom === 'whole'} onClick=${() => setZoom('whole')}>Whole run</button></div></div>
      <div class="time"><${Axis} range=${range} most=${most} /></div></div>
    <div class="rows-frame"><div class="behind"><${Grid} range=${range} most=${most} /></div>
      <div class="rows" ref=${view.box} role="tree" tabindex="0" aria-label="Calls" aria-activedescendant=${here === null ? undefined : `call-${calls.id[here]}`}>
        <div class="pad" role="presentation" style=${{height: `${rows.length * height}px`}}>${rows.slice(view.from, view.to).map((place, k) => html`<${Row} key=${view.slot(view.from + k)} calls=${calls} place=${place} at=${view.from + k} height=${height} closed=${closed} isHere=${place === here} isMatch=${!fits || fits(place)} range=${range} present=${present} choose=${choose} fold=${fold} />`)}</div>
        ${!rows.length && html`<p class="empty">${fits ? 'No call fits.' : 'No calls yet.'}</p>`}
      </div></div>
  </section>`;
}

const CAUSES = {
  error: 'ended by an error', deadline: 'its time was over', cancel: 'cancelled', outer_scope: 'a scope outside was cancelled', ctrl_c: 'Ctrl-C',
  sigterm: 'SIGTERM', parked: 'put aside until a signal comes', lost_lease: 'its owner lost it', store: 'its store failed',
};

const Banner = ({session, calls, id, waits}) => {
  const {error, cause, status, elsewhere} = session;
  // That it was put aside for a signal is told by the form for that.
  if (elsewhere && status === 'running') return html`<div class="banner unknown"><${Mark} status=${status} quiet /><div><strong>${placeOf(elsewhere)}</strong> <span>whether it still runs is not known on this machine</span></div></div>`;
  if ((!error && !cause && !['died', 'failed'].includes(status)) || waits.length) return null;
  const place = calls.firstFailure(cause?.call ?? null);
  const text = error ? `${plain(error.type.split('.').pop())}: ${plain(error.message)}` : '';
  const why = cause ? `${Object.hasOwn(CAUSES, cause.kind) ? CAUSES[cause.kind] : plain(cause.kind)}${cause.reason && !error?.message.includes(cause.reason) ? `: ${plain(cause.reason)}` : ''}` : status === 'died' ? 'its process is gone; this is all that it has told' : '';
  return html`<div class=${`banner ${kindOf(status)}`}><${Mark} status=${status} quiet /><div><strong>${text || labelOf(status)}</strong>${why && why !== text && html` <span>${why}</span>`}</div>
    ${place >= 0 && html`<${Link} class="button" to=${`${sessionAddress(id)}/c/${calls.id[place]}`}>Show ${plain(calls.nameOf(place))}</${Link}>`}</div>`;
};

export function Session({id, call, query, setTrail}) {
  const {data, calls, version, problem, reload} = useSession(id);
  const isNarrow = useMedia('(max-width: 720px)');
  const search = useRef(null);
  const [zoom, setZoom] = useState('rows');
  const [isPanel, setPanel] = useState(true);
  const session = data?.session;
  const isRunning = session?.status === 'running';
  const present = usePresent(calls, isRunning);
  const title = session ? plain(session.name ?? session.flow ?? session.id) : plain(id);
  useEffect(() => {
    setTrail(html`<span aria-hidden="true">/</span><span aria-current="page">${title}</span>`);
    document.title = `${title} · Railtracks`;
  }, [title]);
  const here = call !== null && calls?.places.has(call) ? calls.places.get(call) : null;
  const [status, text] = [query.get('status') ?? '', query.get('q') ?? ''];
  const address = (number, next = query) => `${sessionAddress(id)}${number === null ? '' : `/c/${number}`}${next.size ? `?${next}` : ''}`;
  const choose = (place, {quietly = false} = {}) => {
    if (!quietly) setPanel(true);
    else if (isNarrow) setPanel(false);
    go(address(calls.id[place]), {replace: here !== null});
  };
  const ask = changes => {
    const next = new URLSearchParams(query);
    for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
    go(address(call, next), {replace: true});
  };
  const leave = () => go(address(null));
  useKeys({'/': () => search.current?.focus(), g: () => go(''), Escape: event => (event.target === search.current ? search.current.blur() : here === null ? false : leave())}, [here, query.toString()]);
  if (!data) return html`<main class="session-page">${problem ? html`<${Problem} text=${problem} /><p class="empty"><${Link} to="">All sessions</${Link}></p>` : html`<p class="empty" role="status">Loading…</p>`}</main>`;
  const counts = calls.counts();
  const took = session.ended !== null ? (session.ended - session.started) * 1000 : isRunning ? present : null;
  return html`<main class=${`session-page${here !== null && isPanel ? ' has-call' : ''}${isRunning ? ' is-live' : ''}`}>
    <div class="head"><${Badge} status=${session.status} /><h1>${title}</h1>
      <dl class="brief">
        ${session.flow && session.name && html`<div><dt>Flow</dt><dd>${plain(session.flow)}</dd></div>`}
        <div><dt>Begun</dt><dd><time>${wholeMoment(session.started)}</time></dd></div>
        ${took !== null && html`<div><dt>Took</dt><dd class="digits">${duration(took)}</dd></div>`}
        <div><dt>Kept in</dt><dd>${session.origins.map(origin => html`<span key=${origin.kind} class="origin" title=${plain(origin.place)}>${{store: 'store', state: 'file', events: 'events'}[origin.kind]}</span>`)}</dd></div>
      </dl></div>
    ${problem && html`<${Problem} text=${problem} />`}
    ${data.missing > 0 && html`<${Problem} text=${`${number(data.missing)} events are not kept any more: calls may be missing.`} />`}
    ${session.dropped > 0 && html`<${Problem} text=${`${number(session.dropped)} finished calls were not kept, because of history_limit.`} />`}
    <${Banner} session=${session} calls=${calls} id=${id} waits=${data.waits} />
    ${data.waits.length > 0 && html`<${Signals} id=${id} waits=${data.waits} maySend=${data.may_signal} sent=${reload} />`}
    <div class="filters"><input ref=${search} type="search" aria-label="Search nodes, arguments and errors" placeholder="Search nodes, arguments and errors" value=${text} onInput=${event => ask({q: event.target.value})} />
      <${Chips} label="Status" chosen=${status} choose=${value => ask({status: value})} choices=${calls.statuses.map((name, k) => ({value: name, text: labelOf(name), status: name, count: counts[k]})).filter(choice => choice.count)} />
      ${isRunning && html`<span class="live"><i aria-hidden="true" />live</span>`}</div>
    <div class="work"><${Tree} calls=${calls} version=${version} here=${here} status=${status} text=${text} isNarrow=${isNarrow} present=${present} zoom=${zoom} setZoom=${setZoom} choose=${choose} />
      <aside class="panel" aria-label=${here === null ? 'The session' : 'The call'}>${here === null ? html`<${SessionPanel} session=${session} calls=${calls} version=${version} present=${present} choose=${choose} />` : html`<${CallPanel} key=${call} id=${id} session=${session} calls=${calls} place=${here} present=${present} version=${version} choose=${choose} leave=${leave} />`}</aside>
    </div>
  </main>`;
}
