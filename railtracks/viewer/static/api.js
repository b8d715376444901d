// Requests to the server: each with the token, which no address and no cookie holds.

export const ROOT = new URL('../', import.meta.url);
const KEPT = `railtracks-token:${ROOT.pathname}`;
const GIVEN = /^#token=([\w.~-]+)$/;

// The first address has the token in its fragment. It is kept for this origin, and taken out of the address.
export function takeToken() {
  const given = GIVEN.exec(location.hash);
  if (!given) return;
  localStorage.setItem(KEPT, given[1]);
  history.replaceState(history.state, '', location.pathname + location.search);
}

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

// A foreign file may have half a character in an identifier, which no address has.
export const encoded = text => encodeURIComponent(text.toWellFormed());
export const headers = () => ({Authorization: `Bearer ${localStorage.getItem(KEPT) ?? ''}`});
export const sessionPath = id => `api/s/${encoded(id)}`;

async function answered(response) {
  if (response.ok || response.status === 304) return response;
  let text = `the server answered ${response.status}`;
  try {
    text = (await response.json()).error ?? text;
  } catch {
    // It is no JSON: the number has to do.
  }
  throw new Refused(response.status, text);
}

const fetched = (path, options = {}) =>
  fetch(new URL(path, ROOT), {...options, headers: {...headers(), ...options.headers}}).then(answered);

export const load = async (path, signal) => (await fetched(path, {signal})).json();

// The list, or null if it is still the same as the one with this tag.
export async function loadChanged(path, tag, signal) {
  const response = await fetched(path, {signal, headers: tag ? {'If-None-Match': tag} : {}, cache: 'no-store'});
  return response.status === 304 ? null : {tag: response.headers.get('ETag'), content: await response.json()};
}

export const post = async (path, document) =>
  (await fetched(path, {method: 'POST', body: JSON.stringify(document), headers: {'Content-Type': 'application/json'}})).json();

// Run something while one of few streams is free: a browser has six connections to a host, and each stream takes one.
// Without a free one it is not run.
const STREAMS = 4;

export async function whileFree(run) {
  for (let number = 0; number < STREAMS; number++) {
    const name = `railtracks-stream-${number}:${ROOT.pathname}`;
    const isDone = await navigator.locks.request(name, {ifAvailable: true}, async lock => {
      if (lock) await run();
      return lock !== null;
    });
    if (isDone) return true;
  }
  return false;
}

// What happens in a session after an event, until it ends, the connection is lost, or `signal` aborts it.
export async function* follow(id, after, signal) {
  const response = await fetched(`${sessionPath(id)}/events?after=${after}`, {signal});
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = {};
      for (const line of text.slice(0, end).split('\n')) {
        const colon = line.indexOf(': ');
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      text = text.slice(end + 2);
      if (fields.event) yield {kind: fields.event, seq: fields.id === undefined ? null : Number(fields.id), data: JSON.parse(fields.data)};
    }
  }
}
