// The signals that a session waits for, and a form to answer each, if the viewer may send them.

import {html, useState} from './htm-preact.js';
import {post, sessionPath} from './api.js';
import {plain} from './format.js';
import {Mark, Problem} from './parts.js';

const LOOKS = [300, 1500, 4000];

function Form({id, wait, sent}) {
  const [text, setText] = useState('');
  const [state, setState] = useState({problem: null, isSent: false});
  const send = async value => {
    try {
      // The key is that of the wait: however often it is answered, and from wherever, it is one signal.
      await post(`${sessionPath(id)}/signals`, {session: wait.session, name: wait.name, key: wait.key, value});
      setState({problem: null, isSent: true});
      LOOKS.forEach(time => setTimeout(sent, time));
    } catch (error) {
      setState({problem: error.message, isSent: false});
    }
  };
  const submit = event => {
    event.preventDefault();
    if (wait.takes_text) {
      send(text);
      return;
    }
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      setState({problem: 'This is no JSON. A text stands in double quotes: "yes".', isSent: false});
      return;
    }
    send(value);
  };
  if (state.isSent || wait.is_answered) return html`<p class="note" role="status">Sent. The session goes on when a process runs it.</p>`;
  const write = event => setText(event.target.value);
  return html`<form class="signal" onSubmit=${submit}>
    ${wait.type !== 'boolean' && html`<label>${wait.takes_text ? 'Answer' : 'Answer, as JSON'} ${wait.is_secret ? html`<input type="password" autocomplete="off" value=${text} onInput=${write} />` : html`<textarea rows="2" spellcheck="false" value=${text} onInput=${write} />`}</label>`}
    <div class="actions">${wait.type === 'boolean' ? html`<button type="button" class="button primary" onClick=${() => send(true)}>Yes</button><button type="button" class="button" onClick=${() => send(false)}>No</button>` : html`<button class="button primary">Send</button>`}</div>
    ${state.problem && html`<${Problem} text=${plain(state.problem)} />`}
  </form>`;
}

export const Signals = ({id, waits, maySend, sent}) => html`<section class="waits" aria-label="Signals that the session waits for">
  ${waits.map(wait => html`<div key=${wait.session + wait.key} class="wait"><h2><${Mark} status="waiting" quiet /><span>waits for <b>${plain(wait.name)}</b>: ${plain(wait.wanted)}</span></h2>
    ${wait.problem ? html`<${Problem} text=${plain(wait.problem)} />` : maySend ? html`<${Form} id=${id} wait=${wait} sent=${sent} />` : html`<p class="note">This viewer only looks. Answer with <code>railtracks signal</code>, or start the viewer with <code>--allow-signals</code>.</p>`}</div>`)}
</section>`;
