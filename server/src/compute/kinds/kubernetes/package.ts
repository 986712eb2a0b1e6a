// Our Python package as it goes into a Secret, which may hold a megabyte: packed, and read once.
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
