// What must not stand on a command line: asked for without being shown, or read from standard input.
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { UsageError } from './failures.ts';

/** `instead`: the flag to give where there is no terminal. */
export async function ask(prompt: string, instead: string): Promise<string> {
  if (!process.stdin.isTTY) throw new UsageError('There is no terminal to ask on.', `Give ${instead}.`);
  process.stderr.write(prompt);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const reader = createInterface({ input: process.stdin, output: nowhere, terminal: true });
  try {
    return await reader.question('');
  } finally {
    reader.close();
    process.stderr.write('\n');
  }
}

export async function readInput(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
