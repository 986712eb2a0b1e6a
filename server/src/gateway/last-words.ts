// The answer on a connection that is of no more use, whatever its other side still sends.
import type { Duplex } from 'node:stream';

const lingersMs = 1_000;

/**
 * Bytes that came and were not read would let the kernel reset the connection, and the other side might never see the answer. So they are read and
 * thrown away for a moment, until it has closed its side too (a lingering close: RFC 9112, section 9.6).
 */
export function sayLastWords(socket: Duplex, answer: string): void {
  socket.removeAllListeners('data');
  socket.on('data', () => {});
  socket.end(answer);
  const over = setTimeout(() => socket.destroy(), lingersMs);
  socket.once('close', () => clearTimeout(over));
}
