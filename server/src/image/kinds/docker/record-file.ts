// A small JSON file in a cache folder: written whole or not at all, also when two write it at once.
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export async function readRecord<T>(file: string): Promise<T | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as T);
}

export async function writeRecord(file: string, record: unknown): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  const partial = await mkdtemp(join(dirname(file), '.partial-'));
  try {
    await writeFile(join(partial, 'record'), JSON.stringify(record));
    await rename(join(partial, 'record'), file);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}
