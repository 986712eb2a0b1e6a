import { expect, test } from 'vitest';
import { output } from './programs.ts';

test('arguments reach a program as they are, whatever a shell would make of them', async () => {
  const args = ['$(id)', '`id`', '; id', '| id', '> /nowhere/x', '$HOME', '*', "'", '"', '', 'a b', '-x', 'ä\n'];
  const told = await output({ command: 'printf', args: ['%s\\0', ...args] }).catch((error: unknown) => String(error));
  expect(told.split('\0')).toEqual([...args, '']);
});
