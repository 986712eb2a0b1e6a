// `stellwerk up`: starts the server in this process, on one data folder, until it is told to stop.
import { join } from 'node:path';
import { Command, Option } from 'commander';
import pc from 'picocolors';
import { CommandFailed, UsageError } from '../failures.ts';
import { line, printJson } from '../print.ts';
import type { Session } from '../session.ts';
import { surroundings } from '../surroundings.ts';

interface UpOptions {
  data?: string;
  listen: string;
  port: number;
  servicesPort?: number;
  publicUrl?: string;
  tlsCertificate?: string;
  tlsKey?: string;
  ownAuthority?: boolean;
  allowHost?: string[];
  trashDays?: number;
  masterKeyCommand?: string;
  imageRegistry?: string;
}

export function upCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('up')
    .addOption(new Option('--data <folder>', `Everything is kept here; ${standardFolder()} unless given.`))
    .addOption(new Option('--listen <address>', 'Where it can be reached from.').default('127.0.0.1'))
    .addOption(new Option('--port <number>', 'The port; 0 takes a free one.').argParser(portFrom).default(8470))
    .addOption(
      new Option('--services-port <number>', 'Where web services answer; the next port unless given.').argParser(
        portFrom,
      ),
    )
    .addOption(new Option('--public-url <url>', 'The address that users reach it at, if that is another.'))
    .addOption(new Option('--tls-certificate <file>', 'A certificate (PEM), with its chain.'))
    .addOption(new Option('--tls-key <file>', 'The key of the certificate (PEM).'))
    .addOption(
      new Option(
        '--own-authority',
        'TLS without a certificate of yours: an authority is made in the data folder, and by it certificates for the names of this server; they are renewed at a start. `stellwerk registry trust` tells who is to trust it how.',
      ),
    )
    .addOption(
      new Option(
        '--allow-host <host>',
        'A host of a private network, host:port, that base images may come from; http://host:port without TLS. Repeatable.',
      ).argParser((host: string, before: string[] = []) => [...before, host]),
    )
    .addOption(
      new Option(
        '--image-registry <host>',
        "Where base images without a host come from, host or host/path; STELLWERK_IMAGE_REGISTRY, or the machine's containers/registries.conf, unless given.",
      ),
    )
    .addOption(
      new Option(
        '--master-key-command <command>',
        'What prints the master key in base64, for a shell; STELLWERK_MASTER_KEY, or a file in the data folder, unless given.',
      ),
    )
    .addOption(
      new Option(
        '--trash-days <days>',
        'How long deleted runs, experiments and models can be restored; 7 unless given, 0 for not at all.',
      ).argParser(daysFrom),
    );
  return command.action(() => up(command.opts(), sessionOf(command)));
}

const standardFolder = () => surroundings.dataFolder;

function portFrom(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new UsageError(`--port takes a number up to 65535, not ${text}.`);
  return port;
}

function daysFrom(text: string): number {
  const days = Number(text);
  if (text.trim() === '' || !(days >= 0)) throw new UsageError(`--trash-days takes a number, 0 or more, not ${text}.`);
  return days;
}

async function up({ data = join(standardFolder()), ...options }: UpOptions, session: Session): Promise<void> {
  const { startServer, StartRefused } = await import('@stellwerk/server/main.ts');
  const server = await startServer({ data, ...options }).catch((error: unknown) => {
    if (error instanceof StartRefused) throw new CommandFailed(error.message);
    throw error;
  });
  const { url, signIn, authority } = server;
  if (session.json)
    printJson({
      url,
      data,
      pid: process.pid,
      ...(signIn ? { signIn: signIn.url } : {}),
      ...(authority && { authority }),
    });
  else {
    line(`Stellwerk is at ${pc.bold(url)} (data in ${data}).`);
    if (authority)
      line(`Its authority is ${authority}: where others reach it, STELLWERK_CA_BUNDLE names a copy of that.`);
    if (signIn) {
      line(
        `\nSign in for the first time, as the server administrator, with this link. It is good once:\n  ${signIn.url}`,
      );
      line(`or on the command line:\n  stellwerk login '${signIn.url}'\n`);
    }
  }
  await stopped();
  await server.stop();
}

/** A terminal and npm may both pass one Ctrl+C on; another one later ends the process at once. */
const oneSignalMs = 1_000;

function stopped(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let first: number | undefined;
  const onSignal = () => {
    first ??= performance.now();
    if (performance.now() - first > oneSignalMs) process.exit(130);
    resolve();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  return promise;
}
