// What programs in containers print: both of their outputs come as one stream of frames. A frame: which of the two (1 byte), three zeroes, its
// length (4 bytes), and so many bytes.
import { type Duplex, Readable } from 'node:stream';

const headBytes = 8;
const standardError = 2;
const keptCharacters = 2_000;

/** Calls for each frame of what it is given, however the bytes come. */
function frames(onFrame: (which: number, content: Buffer) => void): (bytes: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (bytes) => {
    rest = rest.length > 0 ? Buffer.concat([rest, bytes]) : bytes;
    let at = 0;
    while (rest.length - at >= headBytes) {
      const length = rest.readUInt32BE(at + 4);
      if (rest.length - at - headBytes < length) break;
      const which = rest.readUInt8(at);
      at += headBytes;
      onFrame(which, rest.subarray(at, at + length));
      at += length;
    }
    rest = rest.subarray(at);
  };
}

/** Of a container that has ended. */
export function outputOf(bytes: Buffer): { stdout: string; stderr: string } {
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  frames((which, content) => parts[which === standardError ? 'stderr' : 'stdout'].push(content))(bytes);
  const textOf = (chunks: Buffer[]) => Buffer.concat(chunks).toString('utf8');
  return { stdout: textOf(parts.stdout), stderr: textOf(parts.stderr) };
}

export interface RunningProgram {
  input: Duplex;
  output: Readable;
  /** The end of its standard error so far. */
  stderr(): string;
  close(): void;
}

export function demultiplexed(stream: Duplex): RunningProgram {
  let stderr = '';
  const output = new Readable({ read: () => stream.resume() });
  stream.on(
    'data',
    frames((which, content) => {
      if (which === standardError) stderr = (stderr + content.toString('utf8')).slice(-keptCharacters);
      else if (!output.push(content)) stream.pause();
    }),
  );
  stream.on('end', () => output.push(null));
  stream.on('close', () => output.destroy());
  stream.on('error', () => output.destroy());
  return { input: stream, output, stderr: () => stderr.trim(), close: () => stream.destroy() };
}
