// Programs in containers that run, over a WebSocket to the cluster: each message is a byte that says which stream, and what went over it.
import { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { WebSocket } from 'ws';
import { type Api, Refusal } from './api.ts';

export interface Container {
  namespace: string;
  pod: string;
  container: string;
}

export interface ProgramThere {
  input: Writable;
  output: Readable;
  /** The end of its standard error so far. */
  stderr(): string;
  /** Its exit code; undefined if the connection was cut before. */
  ended: Promise<number | undefined>;
  close(): void;
}

const streams = { input: 0, output: 1, error: 2, status: 3 } as const;
const endOfInput = Buffer.of(255, streams.input);
const opensWithinMs = 20_000;
const keptCharacters = 2_000;

interface Status {
  status: 'Success' | 'Failure';
  message?: string;
  details?: { causes?: { reason: string; message: string }[] };
}

export async function programIn(api: Api, where: Container, words: readonly string[]): Promise<ProgramThere> {
  const socket = await opened(api, where, words);
  let stderr = '';
  let code: number | undefined;
  const output = new Readable({ read: () => socket.resume() });
  const input = new Writable({
    autoDestroy: false, // its end is not that of the output
    write: (chunk: Buffer, _encoding, done) =>
      socket.send(Buffer.concat([Buffer.of(streams.input), chunk]), (error) => done(error)),
    // An older cluster knows no end of the input but that of all.
    final: (done) =>
      socket.protocol === 'v5.channel.k8s.io' ? socket.send(endOfInput, (error) => done(error)) : done(),
    destroy: (error, done) => {
      socket.close();
      done(error);
    },
  });
  socket.on('message', (message: Buffer) => {
    const content = message.subarray(1);
    if (message[0] === streams.output && content.length > 0 && !output.push(content)) socket.pause();
    if (message[0] === streams.error) stderr = (stderr + content.toString('utf8')).slice(-keptCharacters);
    if (message[0] === streams.status) code = codeIn(content.toString('utf8'));
  });
  socket.on('error', () => {}); // it is closed after it
  const { promise: ended, resolve } = Promise.withResolvers<number | undefined>();
  socket.on('close', () => {
    output.push(null);
    input.destroy();
    resolve(code);
  });
  return { input, output, stderr: () => stderr.trim(), ended, close: () => socket.terminate() };
}

/** To its end; the connection is closed after so long at the latest. */
export async function outputOf(
  api: Api,
  where: Container,
  words: readonly string[],
  timeoutMs = 30_000,
): Promise<{ code: number | undefined; stdout: string; stderr: string }> {
  const program = await programIn(api, where, words);
  const timer = setTimeout(() => program.close(), timeoutMs);
  try {
    const [stdout, code] = await Promise.all([text(program.output), program.ended]);
    return { code, stdout, stderr: program.stderr() };
  } finally {
    clearTimeout(timer);
    program.close();
  }
}

async function opened(
  api: Api,
  { namespace, pod, container }: Container,
  words: readonly string[],
): Promise<WebSocket> {
  const { url, tls, headers } = api.access;
  const query = new URLSearchParams([
    ['container', container],
    ...['stdin', 'stdout', 'stderr'].map((name) => [name, 'true']),
    ...words.map((word) => ['command', word]),
  ]);
  const path = `${url.pathname.replace(/\/$/, '')}/api/v1/namespaces/${namespace}/pods/${pod}/exec?${query}`;
  const socket = new WebSocket(`wss://${url.host}${path}`, ['v5.channel.k8s.io', 'v4.channel.k8s.io'], {
    ...tls,
    headers,
    handshakeTimeout: opensWithinMs,
    perMessageDeflate: false,
  });
  const { promise, resolve, reject } = Promise.withResolvers<WebSocket>();
  socket.on('open', () => resolve(socket));
  socket.on('error', (error) => reject(api.unreachable(error)));
  socket.on('unexpected-response', (_request, answer) => {
    text(answer)
      .then((said) => reject(new Refusal(answer.statusCode!, said.trim())), reject)
      .finally(() => socket.terminate());
  });
  return promise;
}

function codeIn(said: string): number {
  const { status, details } = JSON.parse(said) as Status;
  if (status === 'Success') return 0;
  return Number(details?.causes?.find(({ reason }) => reason === 'ExitCode')?.message ?? 1);
}
