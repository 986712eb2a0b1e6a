import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { searchRegistries } from './search-registries.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'registries-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function read(...texts: (string | undefined)[]) {
  const files = texts.map((_, at) => join(dir, `${at}.conf`));
  for (const [at, text] of texts.entries())
    await (text === undefined ? rm(files[at]!, { force: true }) : writeFile(files[at]!, text));
  return searchRegistries(files);
}

test("the user's own list counts, else the machine's, else there is none", async () => {
  const users =
    '# ours\nunqualified-search-registries = [\n  "registry.example.org:5000", # first\n  "b.example.org/x",\n]\n';
  const machines = 'unqualified-search-registries = ["machine.example.org"]\n[[registry]]\nlocation = "elsewhere"\n';
  expect(await read(users, machines)).toEqual(['registry.example.org:5000', 'b.example.org/x']);
  expect(await read(undefined, machines)).toEqual(['machine.example.org']);
  expect(await read('short-name-mode = "enforcing"\n', machines)).toEqual([]);
  expect(await read(undefined, undefined)).toEqual([]);
});

test.each([
  ['unqualified-search-registries = [', /is no TOML/],
  ['unqualified-search-registries = "a.example.org"', /has no list of registries in unqualified-search-registries/],
  ['unqualified-search-registries = ["https://a.example.org"]', /registries\.0: it must be a host/],
])('%s is an error that names the file', async (text, flaw) => {
  const failure = read(text);
  await expect(failure).rejects.toThrow(flaw);
  await expect(failure).rejects.toThrow(/0\.conf/);
});
