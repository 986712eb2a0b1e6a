import type { Guard } from './guard.ts';

export const browserGuards: readonly Guard[] = [
  {
    attack: "a page of the attacker's among a run's files, shown in the portal's origin",
    guard: 'downloads are attachments and sandboxed',
    changes: [
      {
        file: 'server/src/http/streams.ts',
        code: "    .header('content-disposition', disposition(filename))",
        without: '',
      },
      {
        file: 'server/src/http/streams.ts',
        code: "    .header('content-security-policy', \"sandbox; default-src 'none'\")",
        without: '',
      },
    ],
    test: 'server/src/http/streams.test.ts',
    named: 'is never shown as a page of ours',
  },
  {
    attack: 'a line break, a quote or a path in the name of a download',
    guard: 'names are written as headers may have them',
    changes: [
      {
        file: 'server/src/http/streams.ts',
        code: "const ascii = filename.replaceAll(/[^\\x20-\\x7e]|[\"\\\\%]/g, '_');",
        without: 'const ascii = filename;',
      },
    ],
    test: 'server/src/http/streams.test.ts',
    named: 'may have any name, and no name reaches into the headers',
  },
  {
    attack: 'what a browser guesses of an answer',
    guard: '`nosniff` on every answer',
    changes: [
      {
        file: 'server/src/http/server.ts',
        code: "    'x-content-type-options': 'nosniff',\n    'x-frame-options'",
        without: "    'x-frame-options'",
      },
    ],
    test: 'server/src/http/streams.test.ts',
    named: 'is never shown as a page of ours',
  },
  {
    attack: 'a script in a page of ours',
    guard: 'pages run their own script only',
    changes: [
      {
        file: 'server/src/http/pages.ts',
        code: 'script-src ${script ? hashed(script) : "\'none\'"};',
        without: "script-src 'unsafe-inline';",
      },
    ],
    test: 'server/src/http/server.test.ts',
    named: 'run their own script and style and nothing else',
  },
  {
    attack: 'pages of ours framed by another site',
    guard: 'no frames',
    changes: [{ file: 'server/src/http/server.ts', code: "    'x-frame-options': 'DENY',\n", without: '' }],
    test: 'server/src/http/server.test.ts',
    named: 'a page of another site can neither ask',
  },
  {
    attack: 'a form or script of another site that has the browser ask (CSRF)',
    guard: 'bodies are JSON, and nothing a browser keeps signs in',
    changes: [
      {
        file: 'server/src/http/server.ts',
        code: '    app.removeAllContentTypeParsers();',
        without:
          "    app.removeAllContentTypeParsers();\n    app.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, body, done) => done(null, JSON.parse(String(body))));",
      },
    ],
    test: 'server/src/http/server.test.ts',
    named: 'a page of another site can neither ask',
  },
  {
    attack: 'a name of another site made to point here (DNS rebinding)',
    guard: 'the server answers to its own names only',
    changes: [
      {
        file: 'server/src/http/server.ts',
        code: '    if (!answersTo(known, request.headers.host)) {',
        without: '    if (known.names.length === 0) {',
      },
    ],
    test: 'server/src/http/server.test.ts',
    named: 'is asked of every address',
  },
  {
    attack: 'the same for web services',
    guard: 'the gateway answers to its own names only',
    changes: [
      {
        file: 'server/src/gateway/front.ts',
        code: '  if (hosts && !answersTo(hosts, request.headers.host))',
        without: '  if (hosts && hosts.names.length === 0)',
      },
    ],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'a host that it was not told of is refused',
  },
];
