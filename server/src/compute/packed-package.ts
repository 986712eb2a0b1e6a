// Our Python package as it goes along with a job, in a Secret or a script, which may hold a megabyte or a few: packed, and read once.
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

export function packed(wheel: string): () => Promise<Buffer> {
  let made: Promise<Buffer> | undefined;
  return () => {
    made ??= readFile(wheel).then((bytes) => promisify(gzip)(bytes));
    return made;
  };
}
