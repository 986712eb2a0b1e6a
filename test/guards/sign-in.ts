import type { Guard } from './guard.ts';

export const signInGuards: readonly Guard[] = [
  {
    attack: 'a route without signing in',
    guard: 'one check before every verb',
    changes: [
      {
        file: 'server/src/http/authorise.ts',
        code: "  if (caller.kind === 'stranger')\n    throw",
        without: "  if (caller.kind === 'stranger') return;\n  if (verb === null)\n    throw",
      },
    ],
    test: 'server/src/http/authorise.test.ts',
    named: 'is there, and turns away whoever has not signed in',
  },
  {
    attack: 'a change by a Reader, access by a Contributor',
    guard: 'the role is asked for each verb',
    changes: [
      {
        file: 'server/src/access/authenticator.ts',
        code: '    if (!includes(role, permission)) {',
        without: "    if (!includes(role, 'read')) {",
      },
    ],
    test: 'server/src/http/authorise.test.ts',
    named: 'that changes something refuses a Reader',
  },
  {
    attack: 'things of another workspace, by their names',
    guard: 'who has no role there is told that it is not there',
    changes: [
      { file: 'server/src/access/authenticator.ts', code: '    if (!role)\n', without: '    if (role === null)\n' },
      {
        file: 'server/src/access/authenticator.ts',
        code: '    if (!includes(role, permission)) {',
        without: '    if (role && !includes(role, permission)) {',
      },
    ],
    test: 'server/src/http/authorise.test.ts',
    named: 'of a workspace is out of sight',
  },
  {
    attack: "a run's token used as a user's",
    guard: 'verbs without a scope for runs refuse it',
    changes: [
      {
        file: 'server/src/http/authorise.ts',
        code: '  if (verb.runToken === undefined || workspace !== caller.workspace) throw outOfReach(caller);',
        without: '',
      },
      {
        file: 'server/src/http/authorise.ts',
        code: '  if (!(await reaches(verb, input, caller, runs))) throw outOfReach(caller);',
        without: '',
      },
    ],
    test: 'server/src/http/authorise.test.ts',
    named: 'without a scope for runs refuses',
  },
  {
    attack: "a run's token used for another run",
    guard: 'it reaches its run and what descends from it',
    changes: [
      {
        file: 'server/src/http/authorise.ts',
        code: '      return runs.within(caller.workspace, caller.run, String(input.run));',
        without: '      return true;',
      },
    ],
    test: 'server/src/http/authorise.test.ts',
    named: 'with the scope `run` reaches its run',
  },
  {
    attack: "a run's token that reads another snapshot",
    guard: "only the run's own",
    changes: [
      {
        file: 'server/src/http/authorise.ts',
        code: '      return (await runs.snapshotOf(caller.workspace, caller.run)) === input.snapshot;',
        without: '      return true;',
      },
    ],
    test: 'server/src/http/authorise.test.ts',
    named: 'with the scope `snapshot` reads',
  },
  {
    attack: 'an expired token',
    guard: 'tokens have an end',
    changes: [
      {
        file: 'server/src/access/authenticator.ts',
        code: 'row.disabled || (row.expires_at !== null && Date.parse(row.expires_at) <= now)',
        without: 'row.disabled',
      },
    ],
    test: 'server/src/access/tokens.test.ts',
    named: 'is its user until it expires',
  },
  {
    attack: 'an expired token of a run',
    guard: 'tokens have an end',
    changes: [
      {
        file: 'server/src/access/authenticator.ts',
        code: '    if (!row || Date.parse(row.expires_at) <= this.#needs.now()) throw invalid();',
        without: '    if (!row) throw invalid();',
      },
    ],
    test: 'server/src/access/tokens.test.ts',
    named: 'is its run and attempt until it expires',
  },
  {
    attack: 'a token of a disabled user',
    guard: 'the user is asked for each time',
    changes: [
      {
        file: 'server/src/access/authenticator.ts',
        code: '    if (!row || row.disabled ||',
        without: '    if (!row ||',
      },
      {
        file: 'server/src/access/store.ts',
        code: "    if (set.disabled) tx.run(sql.deleteFrom('token').where('user', '=', name));\n",
        without: '',
      },
    ],
    test: 'server/src/access/tokens.test.ts',
    named: 'is invalid at once when it is revoked',
  },
  {
    attack: 'a limited token that makes one without its limits',
    guard: 'a token makes none that reaches further',
    changes: [
      {
        file: 'server/src/access/callers.ts',
        code: '  if (user.workspace === undefined && user.roleLimit === undefined) return user;',
        without: "  if (user.kind === 'user') return user;",
      },
    ],
    test: 'server/src/access/tokens.test.ts',
    named: 'revokes itself but none that reaches further',
  },
  {
    attack: "an administrator's limited token",
    guard: 'it does not do what administrators do',
    changes: [
      {
        file: 'server/src/access/callers.ts',
        code: '  return seesEveryWorkspace(caller) && (caller as UserCaller).roleLimit === undefined;',
        without: '  return seesEveryWorkspace(caller);',
      },
    ],
    test: 'server/src/access/tokens.test.ts',
    named: 'of an administrator does not do what administrators do',
  },
  {
    attack: 'a sign-in link used again, or by two at once',
    guard: 'a code is good once',
    changes: [
      {
        file: 'server/src/access/store.ts',
        code: "    tx.run(sql.deleteFrom('sign_in_code').where('hash', '=', hash));\n    if (passwordHash",
        without: '    if (passwordHash',
      },
    ],
    test: 'server/src/access/sign-ins.test.ts',
    named: 'signs in one of two who come at the same time',
  },
  {
    attack: 'passwords tried one after another',
    guard: 'five tries, then a wait',
    changes: [{ file: 'server/src/access/sign-ins.ts', code: '    this.#throttle(key);\n', without: '' }],
    test: 'server/src/access/sign-ins.test.ts',
    named: 'wrong five times makes the name wait',
  },
  {
    attack: 'passwords tried at once',
    guard: 'each try is counted before it is looked at',
    changes: [
      {
        file: 'server/src/access/sign-ins.ts',
        code: '    this.#failed(key); // counted before it is known, so that many tries at once are counted too\n',
        without: '',
      },
      {
        file: 'server/src/access/sign-ins.ts',
        code: '    if (!row?.password_hash || !fits) throw passwordWrong();',
        without:
          '    if (!row?.password_hash || !fits) {\n      this.#failed(key);\n      throw passwordWrong();\n    }',
      },
    ],
    test: 'server/src/access/sign-ins.test.ts',
    named: 'wrong five times makes the name wait',
  },
  {
    attack: 'a token or role that was taken away while a stream is open',
    guard: 'open streams ask again',
    changes: [
      {
        file: 'server/src/http/bind.ts',
        code: '  const timer = setInterval(() => void check().catch(refuse), binding.recheckMs);',
        without: '  const timer = setInterval(() => void check().catch(() => refuse), binding.recheckMs);',
      },
    ],
    test: 'server/src/http/streams.test.ts',
    named: 'end when the token is revoked',
  },
  {
    attack: "an older attempt's token",
    guard: 'a newer attempt fences it off',
    changes: [{ file: 'server/src/run/lifecycle.ts', code: '  if (newest)\n', without: '  if (newest === null)\n' }],
    test: 'server/src/run/runs.test.ts',
    named: 'a newer attempt fences the older one off',
  },
  {
    attack: "the server's own machine, by a container engine that a Contributor attaches",
    guard: 'an engine of that machine is attached by administrators',
    changes: [
      {
        file: 'server/src/compute/checks.ts',
        code: " || (settings.kind === 'docker' && settings.address.startsWith('unix:'))",
        without: '',
      },
    ],
    test: 'server/src/compute/computes.test.ts',
    named: "a container engine of the server's own machine is attached by an administrator",
  },
];
