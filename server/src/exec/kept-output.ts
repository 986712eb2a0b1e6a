// What a program prints, kept up to a size; of what is longer, the end.
import type { Readable } from 'node:stream';

const keptBytes = 8 * 1024 * 1024;

/** Reads the stream to its end; gives what is kept of it so far. */
export function keptOf(stream: Readable): () => string {
  let chunks: Buffer[] = [];
  let size = 0;
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
    if (size > 2 * keptBytes) {
      chunks = [Buffer.concat(chunks).subarray(-keptBytes)];
      size = keptBytes;
    }
  });
  return () => Buffer.concat(chunks).subarray(-keptBytes).toString('utf8');
}
