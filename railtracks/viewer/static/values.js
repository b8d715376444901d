// A value as a tree that opens on demand, and a conversation with a model. All of it is text of somebody else.

import {html, useState} from './htm-preact.js';
import {lines, number, plain} from './format.js';

// A browser rounds large numbers; the text that they were written as is shown instead.
class Digits {
  constructor(text) {
    this.text = text;
  }
}
const exact = (_key, value, context) =>
  typeof value === 'number' && context?.source !== undefined && String(value) !== context.source ? new Digits(context.source) : value;

export const parsed = shown => (shown?.json === undefined ? undefined : JSON.parse(shown.json, exact));

const OPEN_DEPTH = 2;
const AT_ONCE = 100;
const LONG = 400;

const Text = ({value}) => {
  const [isWhole, setWhole] = useState(false);
  const isLong = value.length > LONG;
  const text = lines(isLong && !isWhole ? value.slice(0, LONG) : value);
  const cut = isLong && !isWhole;
  return html`<span class=${text.includes('\n') ? 'text block' : 'text'}>${text}${cut && '…'}</span>${isLong && html` <button type="button" class="more" aria-expanded=${isWhole} onClick=${() => setWhole(!isWhole)}>${isWhole ? 'less' : `all ${number(value.length)} characters`}</button>`}`;
};

const Leaf = ({value}) => {
  if (typeof value === 'string') return html`<${Text} value=${value} />`;
  if (value instanceof Digits) return html`<span class="number">${value.text}</span>`;
  return html`<span class=${typeof value === 'number' ? 'number' : 'word'}>${String(value)}</span>`;
};

const isLeaf = value => value === null || typeof value !== 'object' || value instanceof Digits;
const counted = (count, one) => `${number(count)} ${one}${count === 1 ? '' : 's'}`;
const sizeOf = value => (Array.isArray(value) ? counted(value.length, 'item') : counted(Object.keys(value).length, 'key'));

export const Value = ({value, name, depth = 0}) => {
  const [isOpen, setOpen] = useState(depth < OPEN_DEPTH);
  const [most, setMost] = useState(AT_ONCE);
  const label = name === undefined ? null : html`<span class="key">${plain(name)}</span>`;
  if (isLeaf(value)) return html`<div class="value">${label}<${Leaf} value=${value} /></div>`;
  // Not by names that a value may have for its own keys.
  const entries = Object.entries(value);
  if (!entries.length) return html`<div class="value">${label}<span class="word">${Array.isArray(value) ? '[]' : '{}'}</span></div>`;
  return html`<div class="value">
    <button type="button" class="fold" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}><span class="twist" aria-hidden="true" />${label ?? ''}<span class="size">${sizeOf(value)}</span></button>
    ${isOpen &&
    html`<div class="inside">
      ${entries.slice(0, most).map(([key, item]) => html`<${Value} key=${key} name=${key} value=${item} depth=${depth + 1} />`)}
      ${entries.length > most && html`<button type="button" class="more" onClick=${() => setMost(most + 10 * AT_ONCE)}>${number(entries.length - most)} more</button>`}
    </div>`}
  </div>`;
};

// A value as the server sends it: whole, or its beginning.
export const Shown = ({shown, name}) => {
  if (shown.json === undefined) {
    return html`<div class="value">${name !== undefined && html`<span class="key">${plain(name)}</span>`}<span class="note">too long; its beginning:</span><pre class="code">${lines(shown.beginning)}</pre></div>`;
  }
  let value;
  try {
    value = parsed(shown);
  } catch {
    return html`<pre class="code">${lines(shown.json)}</pre>`;
  }
  return html`<${Value} value=${value} name=${name} />`;
};

// Conversations: what agents and their requests to models have in their arguments and results.

const isObject = value => value !== null && typeof value === 'object' && !Array.isArray(value);
const isMessage = value => isObject(value) && typeof value.role === 'string' && ('content' in value || 'result' in value);
const isConversation = value => Array.isArray(value) && value.length > 0 && value.every(isMessage);

// The messages of a call, in their order; null if it is no call of a model or an agent.
export function conversationOf(values) {
  const given = values.args.map(safely).find(isConversation) ?? [];
  const result = safely(values.result);
  if (!isObject(result) || !isObject(result.usage)) return given.length ? given : null;
  if (isMessage(result.message)) return [...given, result.message];
  return isConversation(result.messages) ? result.messages : given.length ? given : null;
}

export const usageOf = values => {
  const result = safely(values.result);
  return isObject(result) && isObject(result.usage) ? result : null;
};

function safely(shown) {
  try {
    return parsed(shown);
  } catch {
    return undefined;
  }
}

const ROLES = {system: 'System', user: 'User', assistant: 'Assistant', tool: 'Tool'};

const ToolCall = ({call}) => {
  const [, name, given] = Array.isArray(call) ? call : [call?.identifier, call?.name, call?.arguments];
  return html`<div class="tool"><span class="toolname">${plain(name)}</span>${isLeaf(given ?? null) ? html`<${Leaf} value=${given ?? ''} />` : html`<${Value} value=${given} />`}</div>`;
};

const Message = ({message}) => {
  const role = Object.hasOwn(ROLES, message.role) ? ROLES[message.role] : plain(message.role);
  const body = message.role === 'tool' && 'result' in message ? message.result : message.content;
  const title = message.role === 'tool' && message.name ? html` <span class="toolname">${plain(message.name)}</span>` : null;
  const calls = Array.isArray(message.tool_calls) ? message.tool_calls : [];
  return html`<li class=${`message ${Object.hasOwn(ROLES, message.role) ? message.role : 'other'}`}>
    <div class="role">${role}${title}${message.is_error && html` <span class="failed-text">failed</span>`}</div>
    ${typeof message.reasoning === 'string' && html`<details class="reasoning"><summary>Reasoning</summary><p class="text block">${lines(message.reasoning)}</p></details>`}
    ${typeof body === 'string' ? body && html`<div class="said"><${Text} value=${body} /></div>` : body !== null && body !== undefined && html`<${Value} value=${body} />`}
    ${calls.length > 0 && html`<div class="toolcalls"><div class="note">calls ${calls.length === 1 ? 'a tool' : `${calls.length} tools`}</div>${calls.map((call, place) => html`<${ToolCall} key=${place} call=${call} />`)}</div>`}
  </li>`;
};

export const Conversation = ({messages}) => {
  const [most, setMost] = useState(AT_ONCE);
  return html`<ol class="conversation">${messages.slice(0, most).map((message, place) => html`<${Message} key=${place} message=${message} />`)}</ol>
    ${messages.length > most && html`<button type="button" class="more" onClick=${() => setMost(most + AT_ONCE)}>${number(messages.length - most)} more messages</button>`}`;
};

export const Usage = ({result}) => {
  const {usage} = result;
  const facts = [
    ['Model', result.model_name], ['Input tokens', usage.input_tokens], ['Output tokens', usage.output_tokens],
    ['Requests', usage.calls > 1 ? usage.calls : undefined], ['Turns', result.turns], ['Cost', result.cost], ['Finished by', result.finish_reason],
  ].filter(([, value]) => value !== undefined && value !== null && isLeaf(value));
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${typeof value === 'number' ? number(value) : plain(value instanceof Digits ? value.text : value)}</dd></div>`)}</dl>`;
};
