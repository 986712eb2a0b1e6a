// `stellwerk run exec <run> -- <program> …`: a program beside the script of a running run, with what is typed here and printed there.
// `stellwerk run forward <run> <port>`: a port of this machine that leads to one of the machine that the run is on.
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { Client } from '@stellwerk/client/client.ts';
import { Command } from 'commander';
import { CommandFailed, UsageError } from '../failures.ts';
import type { Session } from '../session.ts';

type OfRun = { workspace: string; run: string };

const headBytes = 5;
const [output, errors] = [1, 2];

export function execCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('exec')
    .argument('<run>', 'The run, whose script runs.')
    .argument('<program...>', 'The program and its arguments, after `--`.');
  return command.action(async (run: string, program: string[]) => {
    const session = sessionOf(command);
    const client = await session.client();
    const of = { workspace: session.workspace, run };
    const opened = { ...of, ...(await client.sessions.exec({ ...of, command: program })) };
    const stop = new AbortController();
    const typed = sendAll(client, opened, process.stdin, stop.signal).catch(() => {}); // it has ended
    const response = await client.sessions.receive(opened);
    const code = await printed(response.body as AsyncIterable<Uint8Array>);
    stop.abort();
    process.stdin.destroy();
    await typed;
    if (code === undefined) throw new CommandFailed(`The program on the machine of the run ${run} was cut off.`);
    process.exitCode = code;
  });
}

export function forwardCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('forward')
    .argument('<run>', 'The run, whose script runs.')
    .argument('<port>', 'The port there.')
    .option('--local-port <port>', 'The port here; the same unless given, 0 for any that is free.');
  return command.action(async (run: string, text: string) => {
    const session = sessionOf(command);
    const { localPort = text } = command.opts<{ localPort?: string }>();
    const [port, here] = [portOf(text, 1), portOf(localPort, 0)];
    const client = await session.client();
    const of = { workspace: session.workspace, run };
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      carried(client, of, port, socket).catch((error: Error) => {
        process.stderr.write(`${error.message}\n`);
        socket.destroy();
      });
    });
    server.listen(here, '127.0.0.1');
    await once(server, 'listening');
    process.stdout.write(
      `127.0.0.1:${(server.address() as AddressInfo).port} leads to port ${port} of the run ${run}.\n`,
    );
    await once(server, 'close');
  });
}

async function carried(client: Client, of: OfRun, port: number, socket: Socket): Promise<void> {
  const opened = { ...of, ...(await client.sessions.connect({ ...of, port })) };
  const stop = new AbortController();
  socket.on('error', () => stop.abort());
  socket.on('close', () => stop.abort());
  const sent = sendAll(client, opened, socket, stop.signal).catch(() => {}); // the other side is done
  const response = await client.sessions.receive(opened, { signal: stop.signal });
  for await (const chunk of response.body as AsyncIterable<Uint8Array>)
    if (!socket.write(chunk)) await once(socket, 'drain', { signal: stop.signal });
  socket.end();
  await sent;
}

async function sendAll(
  client: Client,
  opened: OfRun & { session: string },
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  for await (const chunk of source) await client.sessions.send(opened, new Uint8Array(chunk), { signal });
  await client.sessions.send({ ...opened, end: true }, new Uint8Array(), { signal });
}

/** What it prints goes where it belongs; gives its exit code, or undefined if it was cut off. */
async function printed(body: AsyncIterable<Uint8Array>): Promise<number | undefined> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of body) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= headBytes && rest.length >= headBytes + rest.readUInt32BE(1)) {
      const end = headBytes + rest.readUInt32BE(1);
      const content = rest.subarray(headBytes, end);
      if (rest[0] === output) process.stdout.write(content);
      else if (rest[0] === errors) process.stderr.write(content);
      else return Number(content.toString());
      rest = rest.subarray(end);
    }
  }
  return undefined;
}

function portOf(text: string, least: number): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < least || port > 65_535) throw new UsageError(`${text} is no port.`);
  return port;
}
