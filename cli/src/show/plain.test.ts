import { legible } from '@stellwerk/contract/paths.ts';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { jsonOf } from '../print.ts';
import { plain, plainLog } from './plain.ts';
import { recordOf } from './record.ts';
import { tableOf } from './table.ts';

it('takes escape sequences and control characters out of what others wrote', () => {
  expect(plain('a\u001b[31mred\u001b[0m\u001b]0;title\u0007b\u001b]8;;http://x\u001b\\link\u0000\u009b2Jc')).toBe(
    'aredblinkc',
  );
  expect(plain('one\r\ntwo\tthree')).toBe('one two three');
  expect(plain('abc\u202edef')).toBe('abcdef');
});

it('lets colours of a log through and nothing that moves the cursor or asks the terminal', () => {
  expect(plainLog('\u001b[32mok\u001b[0m\u001b[2J\u001b[6n 50%\r100%\n\u001b]52;c;xyz\u0007end')).toBe(
    '\u001b[32mok\u001b[0m 50%\r100%\nend',
  );
});

it('writes out what a path has of line breaks and escape sequences: two files never look the same', () => {
  expect(legible('a\r\nb\t\u001b[31m\u0085\u202e ü.txt')).toBe('a\\r\\nb\\t\\u001b[31m\\u0085\\u202e ü.txt');
  const table = tableOf([{ path: 'a\nb' }, { path: 'a\rb' }, { path: 'a b' }], 'runs.listFiles').split('\n');
  expect(table.slice(1)).toEqual(['a\\nb', 'a\\rb', 'a b']);
  expect(tableOf([{ name: 'logs/x\r\n.log', sizeBytes: 1 }], 'logs.list')).toContain('logs/x\\r\\n.log');
});

it('JSON has nothing that steers a terminal, and reads as what it was', () => {
  const value = { name: '\u009b2J\u202e\u001b[2J\u007f ä 𝄞' };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  expect(jsonOf(value)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e]/);
  expect(JSON.parse(jsonOf(value))).toEqual(value);
});

it('never leaves a control character in a table or a record, whatever the server says', () => {
  const nasty = fc.string({
    unit: fc.constantFrom('\u001b', '[', ']', '2', 'J', ';', '\u0007', '\n', '\r', 'ä', '\u202e', '\u009b', '0', 'm'),
  });
  fc.assert(
    fc.property(nasty, nasty, (name, value) => {
      const item = { name, value, tags: { [name]: value }, list: [{ name }], many: [value, name] };
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
      const left = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/;
      expect(tableOf([item], 'nothing')).not.toMatch(left);
      expect(recordOf(item)).not.toMatch(left);
    }),
  );
});
