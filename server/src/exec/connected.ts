// A program with its input and output as one stream. It is ended when the stream is.
import { spawn } from 'node:child_process';
import { Duplex, type Readable, type Writable } from 'node:stream';
import { type Program, plainEnvironment, signalGroup } from './programs.ts';

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
  child.stdin.on('error', () => {}); // it may end without reading its input
  stream.on('close', () => {
    if (child.exitCode === null && child.signalCode === null) signalGroup(child.pid, 'SIGKILL');
  });
  return stream;
}

/** Two streams as one that goes both ways. */
export function joined(readable: Readable, writable: Writable): Duplex {
  return Duplex.from({ readable, writable } as never);
}
