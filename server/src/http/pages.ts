// The few pages that the server itself shows: the way in, and the API to read.
import { createHash } from 'node:crypto';
import { eachVerb } from '@stellwerk/contract/verbs.ts';
import * as z from 'zod';

export interface Page {
  html: string;
  /** The Content-Security-Policy that lets this page's own script and style run, and nothing else. */
  policy: string;
}

const style = `:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre,input{font:14px/1.5 ui-monospace,monospace}input,button{padding:.4rem .6rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;border-bottom:1px solid #8884;padding:.2rem .5rem}h2{margin-top:2.5rem}h3{margin-bottom:.2rem}pre{overflow:auto;padding:.5rem;background:#8882}`;

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escaped = (text: string) => text.replaceAll(/[&<>"']/g, (character) => escapes[character]!);
const hashed = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

function page(title: string, body: string, script = ''): Page {
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title} · Stellwerk</title><style>${style}</style>${body}${script && `<script>${script}</script>`}</html>`;
  const policy = `default-src 'none'; style-src ${hashed(style)}; script-src ${script ? hashed(script) : "'none'"}; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'`;
  return { html, policy };
}

const signInScript = `
const code = location.hash.slice(1);
history.replaceState(null, '', location.pathname);
const form = document.querySelector('form'), out = document.querySelector('output'), name = document.querySelector('[name=user]');
document.querySelectorAll('[data-link]').forEach((e) => { e.hidden = !code; });
document.querySelectorAll('[data-password]').forEach((e) => { e.hidden = !!code; });
name.required = !code;
form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const password = form.elements.password.value;
  const body = code ? { code, password, tokenName: 'browser' } : { user: name.value, password, tokenName: 'browser' };
  const answer = await fetch('/api/v1/sign-in' + (code ? '/redeem' : ''), { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  const result = await answer.json();
  out.textContent = answer.ok
    ? 'Signed in as ' + result.user.name + '. On your machine:\\n\\n  stellwerk login ' + location.origin + ' --user ' + result.user.name + '\\n\\nor use this token, shown only now:\\n\\n  export STELLWERK_URL=' + location.origin + '\\n  export STELLWERK_TOKEN=' + result.token
    : result.message + ' ' + result.hint;
  if (answer.ok) form.hidden = true;
});`;

export const signInPage = page(
  'Sign in',
  `<h1>Stellwerk</h1><form><p data-link>This link is good once. Choose a password (at least 10 characters).</p>
<p data-password><label>User <input name="user" autocomplete="username"></label></p>
<p><label>Password <input name="password" type="password" minlength="10" required autocomplete="current-password"></label> <button>Sign in</button></p></form><pre><output></output></pre><p><a href="/docs">The API</a></p>`,
  signInScript,
);

export const welcomePage = page(
  'Welcome',
  '<h1>Stellwerk</h1><p>An open, self-hosted machine-learning service: train, log, compare, register, build images, deploy.</p><ul><li><a href="/sign-in">Sign in</a></li><li><a href="/docs">The API</a>, <a href="/openapi.json">as OpenAPI 3.1</a></li></ul>',
);

/** The API to read: every verb with its address, who may call it, and what it takes. */
export function apiPage(): Page {
  const nouns = Map.groupBy(eachVerb(), ({ noun }) => noun);
  const sections = [...nouns].map(([noun, verbs]) => {
    const parts = verbs.map(({ name, declaration }) => {
      const schema = z.toJSONSchema(declaration.input, { io: 'input', unrepresentable: 'any' }) as {
        properties?: Record<string, Field>;
        required?: string[];
      };
      const rows = Object.entries(schema.properties ?? {}).map(
        ([field, about]) =>
          `<tr><td><code>${escaped(field)}</code><td>${escaped(typeOf(about))}${schema.required?.includes(field) ? ', needed' : ''}<td>${escaped(about.description ?? '')}`,
      );
      return `<h3 id="${name}">${name}</h3><p>${escaped(declaration.summary)}<br><code>${declaration.method} /api/v1${escaped(declaration.path)}</code> · ${declaration.permission}${declaration.runToken ? ', a run for itself' : ''}${declaration.transport === 'json' ? '' : ` · ${declaration.transport}`}</p>${rows.length ? `<table>${rows.join('')}</table>` : ''}`;
    });
    return `<h2>${noun}</h2>${parts.join('')}`;
  });
  return page(
    'API',
    `<h1>The API of Stellwerk</h1><p>Every verb; the same as <a href="/openapi.json">OpenAPI 3.1</a>. Send <code>Authorization: Bearer &lt;token&gt;</code>.</p>${sections.join('')}`,
  );
}

interface Field {
  type?: string;
  description?: string;
  enum?: unknown[];
  $ref?: string;
}

function typeOf({ type, enum: choices, $ref }: Field): string {
  if (choices) return choices.map(String).join(' | ');
  return type ?? $ref?.split('/').at(-1) ?? 'see OpenAPI';
}
