import type { Guard } from './guard.ts';

const input = 'server/src/http/input.test.ts';
const journals = 'server/src/telemetry/journal.test.ts';
const logs = 'server/src/telemetry/logs.test.ts';
const shape = 'contract/src/json-shape.ts';

export const limitGuards: readonly Guard[] = [
  {
    attack: 'a body of JSON that is larger than any of ours',
    guard: 'bodies have a limit',
    changes: [
      {
        file: 'server/src/http/server.ts',
        code: '      bodyLimit: limits.jsonBodyBytes,',
        without: '      bodyLimit: Number.MAX_SAFE_INTEGER,',
      },
    ],
    test: input,
    named: 'that is too large is refused, from strangers sooner',
  },
  {
    attack: 'large bodies from nobody',
    guard: 'who is not signed in has a lower limit',
    changes: [
      {
        file: 'server/src/http/bind.ts',
        code: "  return permission === 'public' ? { bodyLimit: publicBodyBytes } : {};",
        without: '  return {};',
      },
    ],
    test: input,
    named: 'that is too large is refused, from strangers sooner',
  },
  {
    attack: 'JSON that is nested without end',
    guard: 'depth is counted, before parsing and after',
    changes: [
      { file: shape, code: '    if (depth > limits.jsonDepth) return', without: '    if (depth < 0) return' },
      {
        file: shape,
        code: '  if (text.length < shortText) return false;',
        without: '  if (text !== null) return false;',
      },
    ],
    test: input,
    named: 'is refused before anybody looks at it if it is nested without end',
  },
  {
    attack: 'JSON with keys without end',
    guard: 'the keys of an object are counted',
    changes: [
      {
        file: shape,
        code: '!Array.isArray(one) && inside.length > limits.jsonKeys',
        without: 'one === inside',
      },
    ],
    test: input,
    named: 'is refused before anybody looks at it if it is nested without end',
  },
  {
    attack: 'a million tags',
    guard: 'tags are counted',
    changes: [
      {
        file: 'contract/src/values.ts',
        code: '.refine((all) => Object.keys(all).length <= limits.tags,',
        without: '.refine(() => true,',
      },
    ],
    test: input,
    named: 'with more tags, or longer lists, than the contract allows is refused',
  },
  {
    attack: 'a list of everything on one page (`n=1e9`)',
    guard: 'pages have a limit',
    changes: [
      {
        file: 'contract/src/values.ts',
        code: '  .max(limits.pageSize)',
        without: '',
      },
    ],
    test: input,
    named: 'is refused with the field’s name when a value does not fit',
  },
  {
    attack: 'streams and downloads without end',
    guard: 'what one caller has open is counted',
    changes: [
      {
        file: 'server/src/http/open-streams.ts',
        code: '    if (open >= limits.openStreams)',
        without: '    if (open < 0)',
      },
    ],
    test: 'server/src/http/streams.test.ts',
    named: 'are limited for one caller',
  },
  {
    attack: 'a flood of names of metrics',
    guard: 'a run has so many metrics',
    changes: [
      {
        file: 'server/src/telemetry/append.ts',
        code: '  if (names.count++ >= namesPerRun)',
        without: '  if (names.count++ < 0)',
      },
    ],
    test: journals,
    named: 'a flood of new names is counted once',
  },
  {
    attack: 'a part of a journal that is larger than what is kept in memory',
    guard: 'parts have a limit',
    changes: [
      {
        file: 'server/src/telemetry/journals.ts',
        code: "readWhole(body, limits.journalBytes, 'A part of a journal')",
        without: "readWhole(body, Number.MAX_SAFE_INTEGER, 'A part of a journal')",
      },
    ],
    test: journals,
    named: 'a part larger than the limit is refused before it is kept',
  },
  {
    attack: 'a row with columns without end',
    guard: 'columns are counted',
    changes: [
      {
        file: 'server/src/telemetry/journal-lines.ts',
        code: '      if (Object.keys(entry[2]).length > limits.rowColumns)',
        without: '      if (entry.length === 0)',
      },
    ],
    test: journals,
    named: 'a row with too many columns is refused with its line',
  },
  {
    attack: 'a part of a log that is larger than what is kept in memory',
    guard: 'parts have a limit',
    changes: [
      {
        file: 'server/src/telemetry/logs.ts',
        code: "readWhole(body, limits.logPartBytes, 'A part of a log')",
        without: "readWhole(body, Number.MAX_SAFE_INTEGER, 'A part of a log')",
      },
    ],
    test: logs,
    named: 'a part that is too large is refused',
  },
  {
    attack: 'a flood of lines in a log',
    guard: 'the logs of a run have an end',
    changes: [
      {
        file: 'server/src/telemetry/logs.ts',
        code: '    const room = Math.max(0, limit - total);',
        without: '    const room = Math.max(limit, total, Number.MAX_SAFE_INTEGER);',
      },
    ],
    test: logs,
    named: 'what a run prints beyond its limit is taken and not kept',
  },
  {
    attack: 'a flood of lines on the machine of the run',
    guard: 'the runner’s log has an end',
    changes: [
      {
        file: 'python/src/stellwerk/runner/output.py',
        code: '            if len(data) > self._left:',
        without: '            if len(data) < 0:',
      },
    ],
    test: 'python/tests/test_output.py',
    named: 'test_a_log_has_an_end',
  },
  {
    attack: 'a query that looks at everything',
    guard: 'queries have a time',
    changes: [
      {
        file: 'server/src/run/query/patience.ts',
        code: '  until = performance.now() + ms;',
        without: '  until = performance.now() + ms + 1e9;',
      },
    ],
    test: 'server/src/run/query/query.test.ts',
    named: 'a query that has taken too long is ended',
  },
  {
    attack: 'a manifest without end, from a registry',
    guard: 'what a registry answers has a limit',
    changes: [
      {
        file: 'server/src/oci/registry-client.ts',
        code: '      if (size > documentLimitBytes) throw',
        without: '      if (size < 0) throw',
      },
    ],
    test: 'server/src/oci/registry-client.test.ts',
    named: 'a manifest that is larger than any of ours is refused',
  },
];
