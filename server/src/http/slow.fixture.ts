// Callers who send their requests a byte at a time and never come to an end, as many as wanted.
import { connect } from 'node:net';

const everyMs = 20;

export interface Slow extends Disposable {
  /** What each was told when it was cut off; settled once all were. */
  cutOff: Promise<string[]>;
  /** How many still send. */
  sending(): number;
}

/** Each sends `head`, then `more` again and again. */
export async function slowCallers(port: number, count: number, head: string, more: string): Promise<Slow> {
  const all = await Promise.all(Array.from({ length: count }, () => slowCaller(port, head, more)));
  return {
    cutOff: Promise.all(all.map(({ told }) => told)),
    sending: () => all.filter(({ socket }) => !socket.closed).length,
    [Symbol.dispose]: () => {
      for (const { socket } of all) socket.destroy();
    },
  };
}

async function slowCaller(port: number, head: string, more: string) {
  const socket = connect(port, '127.0.0.1');
  let said = '';
  const told = new Promise<string>((resolve) => {
    socket.on('data', (data) => {
      said += data;
    });
    socket.on('error', () => {}).on('close', () => resolve(said));
  });
  await new Promise<void>((connected) => void socket.once('connect', connected));
  socket.write(head);
  const trickle = setInterval(() => socket.write(more), everyMs);
  socket.on('close', () => clearInterval(trickle));
  return { socket, told };
}
