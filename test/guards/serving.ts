import type { Guard } from './guard.ts';

export const servingGuards: readonly Guard[] = [
  {
    attack: 'a web service without its key',
    guard: 'no key, no replica',
    changes: [
      {
        file: 'server/src/gateway/front.ts',
        code: "found.route.authentication === 'key' && !holdsKey(request.headers.authorization, found.keyHashes)",
        without: "found.route.authentication === 'key' && request.method === 'BREW'",
      },
    ],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'either key is good, and nothing else',
  },
  {
    attack: 'a key that was replaced',
    guard: 'keys are read anew with the routes',
    changes: [
      {
        file: 'server/src/gateway/keys.ts',
        code: 'holds = timingSafeEqual(hash, good) || holds;',
        without: 'holds = timingSafeEqual(hash, good) || holds || key !== undefined;',
      },
    ],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'a key replaced in the routes is good from then on',
  },
  {
    attack: 'paths that climb out of a service',
    guard: 'no `..`, however it is spelled',
    changes: [
      {
        file: 'server/src/gateway/front.ts',
        code: "    !path.startsWith('/') ||\n    /[\\\\\\s]|\\/\\.{1,2}(\\/|$)/.test(path.replace(/%2e/gi, '.').replace(/%5c/gi, '\\\\').replace(/%2f/gi, '/'))",
        without: "    !path.startsWith('/')",
      },
    ],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'paths cannot climb out of a service',
  },
  {
    attack: "the caller's key and cookies, seen by a model",
    guard: 'they stay at the gateway',
    changes: [{ file: 'server/src/gateway/headers.ts', code: "  'authorization',\n  'cookie',\n", without: '' }],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'but neither the key, nor cookies',
  },
  {
    attack: 'a model that sets cookies for the whole host',
    guard: 'such headers are left out',
    changes: [{ file: 'server/src/gateway/headers.ts', code: "  'set-cookie',\n", without: '' }],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'but neither the key, nor cookies',
  },
  {
    attack: 'a model that has browsers report what they do on the host',
    guard: 'such headers are left out',
    changes: [{ file: 'server/src/gateway/headers.ts', code: "  'nel',\n", without: '' }],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'but neither the key, nor cookies',
  },
  {
    attack: 'a model that sets rules for the whole host',
    guard: 'such headers are left out',
    changes: [{ file: 'server/src/gateway/headers.ts', code: "  'strict-transport-security',\n", without: '' }],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'but neither the key, nor cookies',
  },
  {
    attack: 'a model that has browsers ask for a password in our name',
    guard: 'such headers are left out',
    changes: [{ file: 'server/src/gateway/headers.ts', code: "  'www-authenticate',\n", without: '' }],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'but neither the key, nor cookies',
  },
  {
    attack: 'a model that takes over requests to the host',
    guard: 'such headers are left out',
    changes: [{ file: 'server/src/gateway/headers.ts', code: "  'service-worker-allowed',\n", without: '' }],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'but neither the key, nor cookies',
  },
  {
    attack: "a page that a model returns, in the portal's origin",
    guard: 'answers are sandboxed',
    changes: [
      { file: 'server/src/gateway/headers.ts', code: "  'content-security-policy': 'sandbox',\n", without: '' },
    ],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'but neither the key, nor cookies',
  },
  {
    attack: 'answers of a model framed by another site',
    guard: 'no frames',
    changes: [{ file: 'server/src/gateway/headers.ts', code: "  'x-frame-options': 'DENY',\n", without: '' }],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'a key that only a browser keeps is none',
  },
  {
    attack: 'a body that is larger than the service takes',
    guard: 'bodies have a limit, with a length and without',
    changes: [
      {
        file: 'server/src/gateway/forward.ts',
        code: '    if (sizeBytes > service.route.limits.bodyBytes) throw tooLarge(service);\n',
        without: '',
      },
    ],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'a body over the limit is refused',
  },
  {
    attack: 'requests of one service that take the place of others',
    guard: 'so many at once',
    changes: [
      {
        file: 'server/src/gateway/front.ts',
        code: '    if (service.inFlight > service.route.limits.inFlight) throw overloaded(service);\n',
        without: '',
      },
    ],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'more requests at once than allowed are refused',
  },
  {
    attack: 'a request hidden in another (smuggling), by a transfer encoding',
    guard: 'only chunked is known',
    changes: [
      {
        file: 'server/src/gateway/front.ts',
        code: '    insecureHTTPParser: false,',
        without: '    insecureHTTPParser: true,',
      },
      {
        file: 'server/src/gateway/front.ts',
        code: "  if (encoding !== undefined && encoding.toLowerCase() !== 'chunked')",
        without: "  if (encoding === 'never')",
      },
    ],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'the hidden request never arrives',
  },
  {
    attack: "a replica whose socket is a link to another program's",
    guard: 'what lies there must be a socket',
    changes: [{ file: 'server/src/gateway/socket-path.ts', code: 'O_PATH | constants.O_NOFOLLOW', without: 'O_PATH' }],
    test: 'server/src/gateway/gateways.test.ts',
    named: 'one whose socket is a link to something else',
  },
  {
    attack: 'paths and stack traces in what a service answers about a fault',
    guard: 'faults tell their kind only',
    changes: [
      {
        file: 'python/scorer/stellwerk_scorer/script.py',
        code: 'raise Failed("%s raised %s" % (self.what, words.describe(error)), incident) from None',
        without: 'raise Failed("%s raised %s" % (self.what, type(error).__name__ + str(error)), incident) from None',
      },
    ],
    test: 'python/tests/test_scorer.py',
    named: 'test_an_exception_is_told_without_paths',
  },
];
