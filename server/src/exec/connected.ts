// A program with its input and output as one stream. It is ended when the stream is.
import { spawn } from 'node:child_process';
import { Duplex, type Readable, type Writable } from 'node:stream';
import { type Program, plainEnvironment, signalGroup } from './programs.ts';

const graceMs = 5_000;

export function connected(program: Pick<Program, 'command' | 'args' | 'cwd' | 'env' | 'user'>): Duplex {
  const child = spawn(program.command, program.args, {
    cwd: program.cwd,
    env: plainEnvironment(program.env),
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
    ...program.user,
  });
  const stream = joined(child.stdout, child.stdin);
  child.on('error', (error) => stream.destroy(error));
  stream.on('close', () => {
    const isOver = () => child.exitCode !== null || child.signalCode !== null;
    if (isOver()) return;
    signalGroup(child.pid, 'SIGTERM');
    setTimeout(() => isOver() || signalGroup(child.pid, 'SIGKILL'), graceMs).unref();
  });
  return stream;
}

/** Two streams as one that goes both ways. It ends with the readable one, of which nothing is lost: the other may be closed before. */
export function joined(readable: Readable, writable: Writable): Duplex {
  const stream = new Duplex({
    read: () => void readable.resume(),
    write: (chunk, _encoding, done) => {
      if (writable.destroyed) done();
      else writable.write(chunk, () => done());
    },
    final: (done) => {
      writable.end();
      done();
    },
    destroy: (error, done) => {
      readable.destroy();
      writable.destroy();
      done(error);
    },
  });
  readable.on('data', (chunk) => stream.push(chunk) || readable.pause());
  readable.on('end', () => stream.push(null));
  readable.on('close', () => readable.readableEnded || stream.destroy());
  readable.on('error', (error) => stream.destroy(error));
  writable.on('error', () => {}); // who does not read may still have something to say
  stream.on('end', () => stream.destroy());
  return stream;
}
