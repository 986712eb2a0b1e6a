import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Relay } from './relay.ts';

const sources = join(import.meta.dirname, '..', '..', '..', '..', 'python', 'src');
let folder: string;
let server: Server;
let answer: (socket: Socket) => void;
let program: ChildProcessWithoutNullStreams;
let relay: Relay;

const link = () => join(folder, 'relay');
const port = () => (server.address() as AddressInfo).port;
const connectHere = () => connect({ port: port(), host: '127.0.0.1', allowHalfOpen: true });
const over = () => connect({ path: link(), allowHalfOpen: true });
/** To its end; unlike with `buffer`, the other half stays open. */
async function heardBy(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes;
  });
  await once(socket, 'end');
  return text;
}
/** A connection over there is cut by its end: a Unix socket does not tell more. */
const isCut = (there: Socket) => once(there.resume(), 'end').finally(() => there.destroy());
const start = () => spawn('python3', ['-S', '-m', 'stellwerk.runner.relay', link()], { env: { PYTHONPATH: sources } });
const carrierOf = (child: ChildProcessWithoutNullStreams) => ({
  input: child.stdin,
  output: child.stdout,
  close: () => child.stdin.destroy(),
});
const gone = async (child: ChildProcessWithoutNullStreams) => {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
};

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'relay-'));
  answer = (socket) => socket.pipe(socket);
  server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    answer(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  program = start();
  relay = await Relay.lay(carrierOf(program), connectHere);
});

afterEach(async () => {
  relay.close();
  await gone(program);
  server.close();
  rmSync(folder, { recursive: true });
});

test('whoever connects over there speaks with this server, each end by itself', async () => {
  let heard = '';
  answer = async (socket) => {
    heard = await heardBy(socket); // and only then
    socket.end(`heard ${heard.length}`);
  };
  const there = over();
  there.end('something to say');
  expect((await buffer(there)).toString()).toBe('heard 16');
  expect(heard).toBe('something to say');
});

test('an answer that ends first leaves the asking half open', async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  answer = async (socket) => {
    socket.end('that is all');
    resolve(await heardBy(socket));
  };
  const there = over();
  expect(await heardBy(there)).toBe('that is all');
  there.end('and more');
  expect(await promise).toBe('and more');
});

test('100 MB pass whole in both directions at once', async () => {
  const there = over();
  const block = randomBytes(1024 * 1024);
  const sent = createHash('sha256');
  const heard = createHash('sha256');
  there.on('data', (bytes: Buffer) => heard.update(bytes));
  for (let count = 0; count < 100; count++) {
    block.writeUInt32BE(count);
    sent.update(block);
    if (!there.write(Buffer.from(block))) await once(there, 'drain');
  }
  there.end();
  await once(there, 'end');
  expect(heard.digest('hex')).toBe(sent.digest('hex'));
});

test('many connections pass side by side, and short ones one after another', async () => {
  const ask = async (text: string) => {
    const there = over();
    there.end(text);
    return (await buffer(there)).toString();
  };
  const texts = Array.from({ length: 200 }, (_, number) => `${number} `.repeat(1 + number * 20));
  expect(await Promise.all(texts.map(ask))).toEqual(texts);
  for (let number = 0; number < 50; number++) expect(await ask(`again ${number}`)).toBe(`again ${number}`);
  expect(readdirSync(`/proc/${program.pid}/fd`).length).toBeLessThan(15);
});

test('a connection that nobody reads holds up no other, and little is kept for it on either side', async () => {
  let told = 0;
  answer = (socket) => {
    socket.once('data', (first) => {
      if (first.toString() !== 'flood') {
        socket.end(first);
        return;
      }
      const flood = () => {
        while (told < 64e6 && socket.write(Buffer.alloc(65_536))) told += 65_536;
      };
      socket.on('drain', flood);
      flood();
    });
  };
  const silent = over();
  silent.pause();
  silent.write('flood');
  await pause(500);
  const other = over();
  other.end('quick');
  expect((await buffer(other)).toString()).toBe('quick');
  expect(told).toBeLessThan(16e6); // what the kernel's buffers take and two windows
  const resident = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${program.pid}/status`, 'utf8'))![1]);
  expect(resident).toBeLessThan(40_000);
  silent.destroy();
});

test('a connection that this server resets is cut over there, and one that is cut there is cut here', async () => {
  answer = (socket) => socket.once('data', () => socket.resetAndDestroy());
  const there = over();
  there.write('x');
  await isCut(there);
  const { promise, resolve } = Promise.withResolvers<void>();
  answer = (socket) => {
    socket.on('close', () => resolve());
    socket.resume();
    socket.write(Buffer.alloc(1024 * 1024));
  };
  const other = over();
  await once(other, 'data');
  other.destroy();
  await promise;
});

test('what cannot be reached here is cut there', async () => {
  const closed = createServer().listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const { port: nobody } = closed.address() as AddressInfo;
  closed.close();
  const child = start();
  const other = await Relay.lay(carrierOf(child), () => connect({ port: nobody, host: '127.0.0.1' }));
  const there = over();
  await isCut(there);
  other.close();
  await gone(child);
});

test('when the program over there is killed, all connections here are cut; the next relay has the link, and leaves no socket but its own', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  answer = (socket) => {
    socket.on('end', () => resolve());
    socket.resume();
    socket.write('hello');
  };
  const there = over();
  await once(there, 'data');
  const cut = new Promise<void>((done) => relay.onCut(done));
  program.kill('SIGKILL');
  await Promise.all([promise, cut, isCut(there)]);
  expect(relay.isOpen).toBe(false);
  program = start();
  relay = await Relay.lay(carrierOf(program), connectHere);
  answer = (socket) => socket.pipe(socket);
  const again = over();
  again.end('back');
  expect((await buffer(again)).toString()).toBe('back');
  expect(readdirSync(folder)).toHaveLength(2);
  expect(statSync(link()).mode & 0o077).toBe(0);
});

test('when this side goes, the program over there cuts its connections, takes its socket away and leaves', async () => {
  answer = () => {};
  const there = over();
  there.write('waits for an answer');
  await pause(100);
  const socket = readlinkSync(link());
  relay.close();
  await Promise.all([gone(program), isCut(there)]);
  expect(program.exitCode).toBe(0);
  expect(existsSync(socket)).toBe(false);
});

test('what a shell prints before is passed over; what prints something else is no relay, and its words are told', async () => {
  const said = async (text: string) => {
    const output = new PassThrough();
    const laid = Relay.lay({ input: new PassThrough(), output, close: () => output.destroy() }, connectHere);
    output.end(text);
    return laid.then(
      (one) => one.close(),
      (error: Error) => error.message,
    );
  };
  expect(await said('Welcome to node7!\n\nstellwerk relay 1\n')).toBeUndefined();
  expect(await said('python3: not found\n')).toBe('The way back to this server could not be laid: python3: not found');
});

test('a link in a folder that is not there is told', async () => {
  symlinkSync('/nowhere/relay', join(folder, 'other'));
  const child = spawn('python3', ['-S', '-m', 'stellwerk.runner.relay', '/nowhere/relay'], {
    env: { PYTHONPATH: sources },
  });
  const told = buffer(child.stderr);
  await expect(Relay.lay(carrierOf(child), connectHere)).rejects.toMatchObject({ name: 'TargetError', retry: 'later' });
  expect((await told).toString()).toContain('No socket can be laid at /nowhere/relay');
});
