// The way from an address to a page.

import {html, render, useEffect, useState} from './htm-preact.js';
import {ROOT, takeToken} from './api.js';
import {Diff} from './diff.js';
import {Link, useKeys} from './parts.js';
import {Session} from './session.js';
import {Sessions} from './sessions.js';

const THEMES = ['auto', 'light', 'dark'];
const THEME = 'railtracks-theme';

function useTheme() {
  const [theme, setTheme] = useState(() => (THEMES.includes(localStorage.getItem(THEME)) ? localStorage.getItem(THEME) : 'auto'));
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(THEME, theme);
  }, [theme]);
  return [theme, () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length])];
}

// What the address says: its parts below the root, decoded, and its query.
function here() {
  const parts = location.pathname.slice(ROOT.pathname.length).split('/');
  const decoded = parts.map(part => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return {parts: decoded, query: new URLSearchParams(location.search)};
}

const KEYS = [
  ['/', 'search'], ['↑ ↓', 'move'], ['← →', 'close, open'], ['Enter', 'look at it'], ['n p', 'next, previous failure'],
  ['z', 'zoom to the rows in view, or to all'], ['+ −', 'zoom in, out'], ['g', 'back to the list'], ['Esc', 'close'], ['?', 'this help'],
];

const Help = ({close}) => html`<div class="veil" onClick=${close}><section class="help" role="dialog" aria-modal="true" aria-labelledby="help" onClick=${event => event.stopPropagation()}>
  <h2 id="help">Keys</h2>
  <dl>${KEYS.map(([key, text]) => html`<div key=${key}><dt>${key.split(' ').map(each => html`<kbd>${each}</kbd>`)}</dt><dd>${text}</dd></div>`)}</dl>
  <button type="button" class="button" autofocus onClick=${close}>Close</button>
</section></div>`;

function App() {
  const [place, setPlace] = useState(here);
  const [theme, turnTheme] = useTheme();
  const [isHelping, setHelping] = useState(false);
  const [trail, setTrail] = useState(null);
  useEffect(() => {
    const moved = () => {
      takeToken();
      setPlace(here());
    };
    for (const event of ['moved', 'popstate', 'hashchange']) addEventListener(event, moved);
    return () => {
      for (const event of ['moved', 'popstate', 'hashchange']) removeEventListener(event, moved);
    };
  }, []);
  useKeys({'?': () => setHelping(true), Escape: () => (isHelping ? setHelping(false) : false)}, [isHelping]);
  const [kind, first, second, third] = place.parts;
  let page = html`<main class="empty"><h1>There is no such page</h1><p><${Link} to="">All sessions</${Link}></p></main>`;
  if (kind === '') page = html`<${Sessions} query=${place.query} setTrail=${setTrail} />`;
  else if (kind === 's' && first) page = html`<${Session} key=${first} id=${first} call=${second === 'c' && third ? Number(third) : null} query=${place.query} setTrail=${setTrail} />`;
  else if (kind === 'diff' && second) page = html`<${Diff} key=${`${first}/${second}`} before=${first} after=${second} setTrail=${setTrail} />`;
  return html`<header class="bar">
      <${Link} to="" class="home"><svg class="logo" viewBox="0 0 32 32" aria-hidden="true"><path d="M5 8h13M9 16h18M7 24h10" /></svg>Railtracks</${Link}>
      <nav class="trail" aria-label="You are here">${trail}</nav>
      <button type="button" class="icon" title="Colours: ${theme}" aria-label="Colours: ${theme}" onClick=${turnTheme}><svg viewBox="0 0 16 16" aria-hidden="true"><path d=${{auto: 'M8 2.5a5.5 5.5 0 1 0 .01 0M8 2.5v11M9.5 4.5v7M11 5.5v5', light: 'M8 5a3 3 0 1 0 .01 0M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1', dark: 'M12.8 10A5.5 5.5 0 0 1 6 3.2 5.5 5.5 0 1 0 12.8 10z'}[theme]} /></svg></button>
      <button type="button" class="icon" title="Keys" aria-label="Keys" onClick=${() => setHelping(true)}>?</button>
    </header>
    ${page}
    ${isHelping && html`<${Help} close=${() => setHelping(false)} />`}`;
}

takeToken();
render(html`<${App} />`, document.getElementById('app'));
