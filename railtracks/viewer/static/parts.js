// Small parts that every page has.

import {html, useEffect, useLayoutEffect, useRef, useState} from './htm-preact.js';
import {ROOT} from './api.js';
import {kindOf, labelOf, markOf} from './format.js';

// The mark of a status, with its name for those who do not see it.
export const Mark = ({status, quiet}) => html`<svg class=${`mark ${kindOf(status)}`} viewBox="0 0 16 16" role=${quiet ? 'presentation' : 'img'} aria-label=${quiet ? undefined : labelOf(status)}><path d=${markOf(status)} /></svg>`;

export const Badge = ({status}) => html`<span class=${`badge ${kindOf(status)}`}><${Mark} status=${status} quiet />${labelOf(status)}</span>`;

// Go to another page without loading anything.
export function go(path, {replace = false} = {}) {
  history[replace ? 'replaceState' : 'pushState'](null, '', new URL(path, ROOT));
  dispatchEvent(new Event('moved'));
}

export const Link = ({to, children, ...rest}) => {
  const click = event => {
    // A click that opens a tab or a window is the browser's.
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to);
  };
  return html`<a href=${new URL(to, ROOT).href} onClick=${click} ...${rest}>${children}</a>`;
};

// Whether this page is seen: what nobody sees asks the server for nothing.
export function useVisible() {
  const [isVisible, setVisible] = useState(document.visibilityState === 'visible');
  useEffect(() => {
    const change = () => setVisible(document.visibilityState === 'visible');
    document.addEventListener('visibilitychange', change);
    return () => document.removeEventListener('visibilitychange', change);
  }, []);
  return isVisible;
}

export function useMedia(query) {
  const [fits, setFits] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const change = () => setFits(list.matches);
    list.addEventListener('change', change);
    change();
    return () => list.removeEventListener('change', change);
  }, [query]);
  return fits;
}

// The rows of a long list that are in view: only these are elements.
export function useWindow(count, row) {
  const box = useRef(null);
  const [[top, height], setView] = useState([0, 800]);
  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const look = () => setView([element.scrollTop, element.clientHeight]);
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener('scroll', look, {passive: true});
    return () => {
      observer.disconnect();
      element.removeEventListener('scroll', look);
    };
  }, []);
  const from = Math.max(0, Math.min(count, Math.floor(top / row)) - 6);
  const to = Math.min(count, Math.ceil((top + height) / row) + 6);
  const show = place => {
    const element = box.current;
    if (!element) return;
    if (place * row < element.scrollTop) element.scrollTop = place * row;
    else if ((place + 1) * row > element.scrollTop + element.clientHeight) element.scrollTop = (place + 1) * row - element.clientHeight;
  };
  const first = Math.min(Math.max(0, count - 1), Math.ceil(top / row));
  const last = Math.min(count, Math.max(first + 1, Math.floor((top + height) / row)));
  // Elements are taken again for other rows: to make new ones while somebody scrolls takes longer than a frame.
  const pool = Math.ceil((to - from + 1) / 16) * 16;
  return {box, from, to, first, last, show, slot: place => place % pool};
}

// Keys that work anywhere on a page, but not where somebody writes.
export function useKeys(keys, deps) {
  // Before anything is drawn: a key that is pressed then is meant for what is seen.
  useLayoutEffect(() => {
    const press = event => {
      const isWriting = event.target.closest?.('input, textarea, select');
      if (event.ctrlKey || event.metaKey || event.altKey || (isWriting && event.key !== 'Escape')) return;
      const act = keys[event.key];
      if (act && act(event) !== false) event.preventDefault();
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, deps);
}

export const Chips = ({label, chosen, choices, choose}) => html`<div class="chips" role="group" aria-label=${label}>
  ${choices.map(
    ({value, text, status, count}) => html`<button key=${value} type="button" class="chip" aria-pressed=${chosen === value} onClick=${() => choose(chosen === value ? '' : value)}>
      ${status && html`<${Mark} status=${status} quiet />`}<span>${text}</span>${count !== undefined && html`<span class="count">${count.toLocaleString('en')}</span>`}
    </button>`,
  )}
</div>`;

export const Problem = ({text}) => html`<div class="problem" role="alert"><${Mark} status="unknown" quiet /><span>${text}</span></div>`;
