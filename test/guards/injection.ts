import type { Guard } from './guard.ts';

const requirements = 'server/src/environment/requirements-file.ts';
const requirementTests = 'server/src/environment/requirements-file.test.ts';
const condaFile = 'server/src/environment/conda-file.ts';
const condaTests = 'server/src/environment/conda-file.test.ts';
const conditions = 'server/src/run/query/conditions.ts';
const plain = 'cli/src/show/plain.ts';
const plainTests = 'cli/src/show/plain.test.ts';

export const injectionGuards: readonly Guard[] = [
  {
    attack: 'what a shell would carry out, in arguments of any program',
    guard: 'no program is started by a shell',
    changes: [
      {
        file: 'server/src/exec/programs.ts',
        code: "    stdio: [program.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],",
        without: "    shell: true, stdio: [program.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],",
      },
    ],
    test: 'server/src/exec/programs.test.ts',
    named: 'arguments reach a program as they are',
  },
  {
    attack: 'what a shell would carry out, in arguments of a script',
    guard: 'no script is started by a shell',
    changes: [
      {
        file: 'python/src/stellwerk/runner/guard.py',
        code: 'argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output',
        without: '" ".join(argv), shell=True, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output',
      },
    ],
    test: 'python/tests/test_runner.py',
    named: 'test_a_run_is_executed_and_everything_it_leaves_is_delivered',
  },
  {
    attack: 'what a shell would carry out, on a machine by SSH',
    guard: 'one function writes command lines, and quotes each word',
    changes: [
      {
        file: 'server/src/exec/ssh/quote.ts',
        code: "  return plain.test(text) ? text : `'${text.replaceAll(\"'\", `'\\\\''`)}'`;",
        without: '  return JSON.stringify(text);',
      },
    ],
    test: 'server/src/exec/ssh/quote.test.ts',
    named: 'a shell gives a program each argument',
  },
  {
    attack: 'a machine in the middle, between the server and a machine by SSH',
    guard: 'the host key is the one that was attached',
    changes: [
      { file: 'server/src/exec/ssh/connection.ts', code: '      return isIt;', without: '      return isIt || true;' },
      {
        file: 'server/src/exec/ssh/connection.ts',
        code: '    if (type !== undefined) config.algorithms',
        without: '    if (type === null) config.algorithms',
      },
    ],
    test: 'server/src/exec/ssh/connection.engine.test.ts',
    named: 'a machine that shows another host key than the one',
  },
  {
    attack: 'a stranger at the relay of a cluster, or in its place',
    guard: 'relay and node show each other that they know the secret of their folder',
    changes: [
      {
        file: 'python/src/stellwerk/runner/login_relay.py',
        code: 'if not hmac.compare_digest(proof, proof_of(self.secret, "node", ours, theirs)):',
        without: 'if not proof:',
      },
    ],
    test: 'python/tests/test_cluster.py',
    named: 'test_whoever_does_not_know_the_secret_is_cut_off_on_either_side',
  },
  {
    attack: 'what a shell would carry out, in names of packages',
    guard: 'names have a pattern',
    changes: [
      {
        file: requirements,
        code: '/^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)',
        without: '/^(\\S+)',
      },
    ],
    test: requirementTests,
    named: 'refuses $(reboot) with its line',
  },
  {
    attack: 'options for the installer among the packages, such as `--cache-dir`',
    guard: 'only options that are known are taken',
    changes: [
      {
        file: requirements,
        code: 'else throw refused(at, `\\`${given}\\` is not an option of a requirements file.`);',
        without: '',
      },
    ],
    test: requirementTests,
    named: 'refuses --cache-dir=/tmp with its line',
  },
  {
    attack: 'options for conda among its packages',
    guard: 'packages begin with a letter, a digit or `_`',
    changes: [
      {
        file: condaFile,
        code: '([A-Za-z0-9_][\\w.-]*)\\s*(.*)$/',
        without: '([\\w.-][^\\s]*)\\s*(.*)$/',
      },
    ],
    test: condaTests,
    named: 'refuses "dependencies:\\n  - --prefix=/\\n"',
  },
  {
    attack: 'options for conda among its channels',
    guard: 'channels begin with a letter or a digit',
    changes: [{ file: condaFile, code: 'if (!/^[A-Za-z0-9][\\w.:/+-]*$/.test(clean))', without: 'if (false)' }],
    test: condaTests,
    named: 'refuses "channels:\\n  - --evil',
  },
  ...(
    [
      ['run', 'contract/src/run-configuration.ts', '  .string()\n  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/)', '  .string()'],
      ['image', 'contract/src/image.ts', 'z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/)', 'z.string()'],
    ] as const
  ).map(([what, file, code, without]) => ({
    attack: `line breaks and \`=\` in the name of an environment variable of ${what === 'run' ? 'a run' : 'an image'}`,
    guard: 'names have a pattern',
    changes: [{ file, code, without }],
    test: 'contract/src/run-configuration.test.ts',
    named: 'no environment variable has the name "A\\nB"',
  })),
  {
    attack: 'SQL in a value of a query',
    guard: 'values are bound',
    changes: [
      {
        file: conditions,
        code: '${raw.raw(by)} ${bound(value)}`',
        without: "${raw.raw(by)} ${typeof value === 'string' ? raw.raw(`'${value}'`) : bound(value)}`",
      },
    ],
    test: 'server/src/run/query/query.test.ts',
    named: "displayName = 'x'' or ''1''=''1'",
  },
  {
    attack: 'SQL in the name of a tag, parameter or metric',
    guard: 'names are bound',
    changes: [{ file: conditions, code: '= ${name.toWellFormed()}`]', without: "= ${raw.raw(`'${name}'`)}`]" }],
    test: 'server/src/run/query/query.test.ts',
    named: `tags."x' or '1'='1" = 'ridge'`,
  },
  {
    attack: 'a page token of somebody’s own',
    guard: 'it is the values of a sort key, or refused',
    changes: [
      {
        file: 'server/src/db/paging.ts',
        code: "key.every((v) => v === null || typeof v === 'string' || typeof v === 'number')",
        without: 'true',
      },
    ],
    test: 'server/src/db/paging.test.ts',
    named: 'are refused for a token that this list did not give',
  },
  {
    attack: 'line breaks and quotes in the name of a download, for headers of one’s own',
    guard: 'they are written out',
    changes: [
      {
        file: 'server/src/http/streams.ts',
        code: "filename.replaceAll(/[^\\x20-\\x7e]|[\"\\\\%]/g, '_')",
        without: 'filename',
      },
    ],
    test: 'server/src/http/streams.test.ts',
    named: 'may have any name, and no name reaches into the headers',
  },
  {
    attack: 'a path within a field of an address (Python)',
    guard: 'fields are encoded',
    changes: [
      {
        file: 'python/src/stellwerk/_transport.py',
        code: 'name: quote(str(value), safe="") for name, value',
        without: 'name: str(value) for name, value',
      },
    ],
    test: 'python/tests/test_transport.py',
    named: 'test_fields_of_a_path_cannot_leave_their_place',
  },
  {
    attack: 'escape sequences in names, for the terminal of whoever lists them',
    guard: 'they are taken out',
    changes: [{ file: plain, code: "    .replace(sequences, '')\n", without: '' }],
    test: plainTests,
    named: 'takes escape sequences and control characters out',
  },
  {
    attack: 'escape sequences in a log',
    guard: 'all but colours are taken out',
    changes: [{ file: plain, code: "(colour.test(sequence) ? sequence : '')", without: 'sequence' }],
    test: plainTests,
    named: 'lets colours of a log through',
  },
  {
    attack: 'line breaks in names, for lines of a table of one’s own',
    guard: 'they are written out',
    changes: [{ file: 'contract/src/paths.ts', code: "'\\n': '\\\\n', ", without: "'\\n': '\\n', " }],
    test: plainTests,
    named: 'writes out what a path has of line breaks',
  },
  {
    attack: '`__proto__` in JSON',
    guard: 'bodies with it are refused',
    changes: [
      {
        file: 'server/src/http/server.ts',
        code: "app.getDefaultJsonParser('error', 'error')",
        without: "app.getDefaultJsonParser('ignore', 'ignore')",
      },
    ],
    test: 'server/src/http/input.test.ts',
    named: 'with a key that would reach into every object is refused',
  },
  {
    attack: '`__proto__` as the name of a parameter',
    guard: 'it is a name like any other',
    changes: [
      {
        file: 'server/src/run/parameters.ts',
        code: 'return Object.fromEntries(found);',
        without:
          'const all: Record<string, never> = {}; for (const [name, value] of found) all[name] = value as never; return all;',
      },
    ],
    test: 'server/src/run/parameters.test.ts',
    named: 'a name that could be taken for more',
  },
  {
    attack: 'a regular expression that never ends',
    guard: 'the engine has no backtracking, and none of what would need it',
    changes: [
      {
        file: 'server/src/run/query/patterns.ts',
        code: '    compiled(pattern);\n    return undefined;',
        without: '    new RegExp(pattern);\n    return undefined;',
      },
    ],
    test: 'server/src/run/query/language.test.ts',
    named: '(?=x)',
  },
  {
    attack: 'a query that takes very long',
    guard: 'queries have a time, and are ended',
    changes: [
      {
        file: 'server/src/run/query/patience.ts',
        code: '    if (text === null) return 0;\n    if (performance.now() > until) throw tooCostly();',
        without: '    if (text === null) return 0;',
      },
    ],
    test: 'server/src/run/query/query.test.ts',
    named: 'a query that has taken too long is ended',
  },
];

export const deserialisationGuards: readonly Guard[] = [
  {
    attack: 'YAML tags that make objects of Python',
    guard: 'tags mean nothing: values are text, numbers, lists and mappings',
    changes: [
      {
        file: 'python/src/stellwerk/_yaml.py',
        code: 'return (None if node is None else _value(yaml, node, (), lines, source, 0)), lines',
        without: 'return yaml.unsafe_load(text), lines',
      },
    ],
    test: 'python/tests/test_run_configuration.py',
    named: 'test_tags_make_no_objects',
  },
  {
    attack: 'YAML aliases that multiply (Python)',
    guard: 'values are counted',
    changes: [
      {
        file: 'python/src/stellwerk/_yaml.py',
        code: 'MOST_VALUES = 100_000',
        without: 'MOST_VALUES = 1_000_000_000',
      },
    ],
    test: 'python/tests/test_run_configuration.py',
    named: 'test_what_would_swell_or_never_end_is_refused',
  },
];
