// Commands that must succeed, typed by the signed-in user of an installation.
import { expect } from 'vitest';
import type { Installation } from './installation.ts';

/** Gives what was printed. */
export async function typed(installation: Installation, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await installation.cli(args);
  expect(code, `stellwerk ${args.join(' ')}: ${stderr}`).toBe(0);
  return stdout;
}

/** Gives the answer as programs read it. */
export async function asked<T>(installation: Installation, ...args: string[]): Promise<T> {
  return JSON.parse(await typed(installation, ...args, '--json')) as T;
}
