// One connection to a machine by SSH: programs over there with their streams and exit codes, files put there whole or not at all, and a
// socket over there that leads back here. The machine must show the host key that it is known by; with any other nothing is sent to it.
import { createHash, randomUUID } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TargetError } from '@stellwerk/contract/errors.ts';
import type { Client, ClientChannel, ConnectConfig, ParsedKey, SFTPWrapper } from 'ssh2';
import { keptOf } from '../kept-output.ts';
import { commandLine } from './quote.ts';
import { Turns } from './turns.ts';

export interface SshAddress {
  address: string;
  port: number;
  user: string;
  /** As a line of known_hosts has it (`ssh-ed25519 AAAA…`), or its fingerprint (`SHA256:…`). */
  hostKey: string;
}

export interface SshSignIn {
  password?: string;
  key?: string;
  passphrase?: string;
}

export interface RemoteProgram {
  words: readonly string[];
  env?: Readonly<Record<string, string>>;
  input?: string | Uint8Array;
  timeoutMs?: number;
  /** Others need not wait for it. */
  takesLong?: boolean;
}

export interface RemoteEnded {
  /** Null if a signal ended it. */
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

const connectWithinMs = 15_000;
const keepaliveEveryMs = 3_000;
const keepaliveMisses = 4;
/** sshd grants 10 sessions to a connection unless it is told otherwise; one is for files. */
const sessionsAtATime = 6;
/** Of programs that are mostly over at once: more of them keep the machine over there from all else, and come to an end no sooner. */
const quickAtATime = 2;
const openAgainMs = 50;
/** SSH_OPEN_CONNECT_FAILED (RFC 4254, 5.1), with which sshd refuses more sessions than it grants. */
const notOpened = 2;

export class SshConnection {
  readonly #client: Client;
  readonly #name: string;
  readonly #turns = new Turns(sessionsAtATime);
  readonly #quickTurns = new Turns(quickAtATime);
  #files: Promise<SFTPWrapper> | undefined;
  #cut: TargetError | undefined;
  readonly #onCut: (() => void)[] = [];

  private constructor(client: Client, name: string) {
    this.#client = client;
    this.#name = name;
  }

  static async open(to: SshAddress, signIn: SshSignIn): Promise<SshConnection> {
    const { Client, utils } = await loaded();
    const name = `${to.user}@${to.address}:${to.port}`;
    const config: ConnectConfig = {
      username: to.user,
      readyTimeout: connectWithinMs,
      keepaliveInterval: keepaliveEveryMs,
      keepaliveCountMax: keepaliveMisses,
    };
    if (signIn.key !== undefined) {
      const parsed = utils.parseKey(signIn.key, signIn.passphrase);
      if (parsed instanceof Error)
        throw new TargetError(
          'never',
          `The key for ${name} cannot be used: ${parsed.message.replace(/^Cannot parse privateKey: /, '')}`,
        );
      config.privateKey = signIn.key;
      if (signIn.passphrase !== undefined) config.passphrase = signIn.passphrase;
    }
    if (signIn.password !== undefined) config.password = signIn.password;
    const type = to.hostKey.startsWith('SHA256:') ? undefined : to.hostKey.split(' ')[0];
    if (type !== undefined) config.algorithms = { serverHostKey: signaturesOf(type) };
    let shown: string | undefined;
    config.hostVerifier = (key: Buffer) => {
      const isIt = isKnownBy(key, to.hostKey);
      if (!isIt) shown = fingerprint(key);
      return isIt;
    };
    const client = new Client();
    const socket = await reached(to);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    client.on('ready', resolve);
    client.on('error', (error: Error & { level?: string }) => {
      reject(
        shown !== undefined
          ? new TargetError(
              'never',
              `${to.address}:${to.port} shows another host key (${shown}) than the one that it is known by.`,
            )
          : /no matching host key/i.test(error.message)
            ? new TargetError(
                'never',
                `${to.address}:${to.port} does not have a host key of the type that it is known by (${type}).`,
              )
            : error.level === 'client-authentication'
              ? new TargetError('never', `${to.address}:${to.port} refused the sign-in of ${to.user}.`)
              : new TargetError('later', `${name} cannot be reached: ${error.message}`),
      );
    });
    client.on('close', () => reject(new TargetError('later', `${name} closed the connection.`)));
    client.connect({ ...config, sock: socket });
    try {
      await promise;
    } catch (error) {
      client.destroy();
      socket.destroy();
      throw error;
    }
    const connection = new SshConnection(client, name);
    connection.#watch();
    socket.unref(); // nobody has to wait for a connection that is only kept
    return connection;
  }

  get isOpen(): boolean {
    return this.#cut === undefined;
  }

  close(): void {
    this.#over(`The connection to ${this.#name} was closed.`);
    this.#client.end();
    this.#client.destroy();
  }

  /** Runs a program over there to its end, whatever its exit code. If it is given up, what it started may go on. */
  run(program: RemoteProgram): Promise<RemoteEnded> {
    const run = () => this.#turns.take(() => this.#run(program));
    return program.takesLong ? run() : this.#quickTurns.take(run);
  }

  /** A program over there with its input and output as one stream, which ends with this connection at the latest. */
  async stream({ words, env }: RemoteProgram): Promise<Duplex> {
    const channel = await this.#untilCut<ClientChannel>((done) => this.#exec(commandLine(words, env), done));
    channel.stderr.resume();
    channel.on('end', () => channel.destroy()); // its program has ended
    return channel;
  }

  /** Starts a program that goes on as long as this connection does: when that is gone, its standard input ends. Gives the first line that it prints. */
  async keep({ words, env, timeoutMs = connectWithinMs }: RemoteProgram): Promise<string> {
    const failed = (why: string) => new TargetError('later', `A program on ${this.#name} ${why}.`);
    let timer: NodeJS.Timeout | undefined;
    try {
      return await this.#untilCut<string>((done) => {
        this.#exec(commandLine(words, env), (error, channel) => {
          if (!channel) return done(failed(`could not be started: ${error?.message}`));
          timer = setTimeout(() => channel.close(), timeoutMs);
          const [stdout, stderr] = [keptOf(channel), keptOf(channel.stderr)];
          channel.on('data', () => {
            if (stdout().includes('\n')) done(undefined, stdout().split('\n')[0]!);
          });
          channel.on('close', () => done(failed(`did not go on: ${stderr().trim() || 'it said nothing'}`)));
          channel.on('error', () => {}); // it is closed, too
        });
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Whole or not at all, readable by the user alone. */
  async put(content: Uint8Array, path: string): Promise<void> {
    const files = await this.#sftp();
    const making = `${path}.${randomUUID()}`;
    try {
      await this.#untilCut<void>((done) => files.writeFile(making, Buffer.from(content), { mode: 0o600 }, done));
      await this.#untilCut<void>((done) => files.ext_openssh_rename(making, path, done));
    } catch (error) {
      if (this.isOpen) files.unlink(making, () => {});
      if (error instanceof TargetError) throw error;
      throw new TargetError('later', `${path} could not be put on ${this.#name}: ${(error as Error).message}`);
    }
  }

  /** From now on, whoever connects to the socket over there speaks with what `here` gives, for as long as this connection lives. */
  async relay(path: string, here: () => Duplex): Promise<void> {
    this.#client.on('unix connection', (info, accept) => {
      if (info.socketPath !== path) return;
      const there = accept();
      const end = here();
      for (const [from, to] of [
        [there, end],
        [end, there],
      ] as const) {
        from.on('error', () => to.destroy());
        from.on('close', () => to.destroy());
        from.pipe(to);
      }
    });
    await this.#untilCut<void>((done) => this.#client.openssh_forwardInStreamLocal(path, done)).catch((error) => {
      if (error instanceof TargetError) throw error;
      throw new TargetError(
        'never',
        `sshd on ${this.#name} refuses to lay a way back to this server (AllowStreamLocalForwarding): ${error.message}.`,
      );
    });
  }

  /** A connection to a socket over there. */
  async connectTo(path: string): Promise<Duplex> {
    const failed = (error: Error) =>
      error instanceof TargetError
        ? error
        : new TargetError('later', `The socket ${path} on ${this.#name} cannot be reached: ${error.message}`);
    const forward = (done: (error?: Error, stream?: Duplex) => void) =>
      this.#client.openssh_forwardOutStreamLocal(path, done);
    return this.#untilCut<Duplex>(forward).catch((error) => Promise.reject(failed(error)));
  }

  /** Once, when nothing can go over it any more. */
  onCut(listener: () => void): void {
    if (this.isOpen) this.#onCut.push(listener);
    else listener();
  }

  #watch(): void {
    this.#client.on('error', (error: Error) => this.#over(`The connection to ${this.#name} was cut: ${error.message}`));
    this.#client.on('close', () => this.#over(`The connection to ${this.#name} was cut.`));
  }

  #over(reason: string): void {
    if (this.#cut) return;
    this.#cut = new TargetError('later', reason);
    for (const listener of this.#onCut.splice(0)) listener();
  }

  async #run({ words, env, input, timeoutMs }: RemoteProgram): Promise<RemoteEnded> {
    const failed = (why: string) => new TargetError('later', `A program on ${this.#name} ${why}.`);
    let timer: NodeJS.Timeout | undefined;
    try {
      return await this.#untilCut<RemoteEnded>((done) => {
        // Listened to at once: a short program's end arrives together with its beginning.
        this.#exec(commandLine(words, env), (error, channel) => {
          if (!channel) return done(failed(`could not be started: ${error?.message}`));
          if (timeoutMs !== undefined) timer = setTimeout(() => channel.close(), timeoutMs);
          const [stdout, stderr] = [keptOf(channel), keptOf(channel.stderr)];
          let ended: Pick<RemoteEnded, 'code' | 'signal'> | undefined;
          channel.on('exit', (code: number | null, signal?: string) => {
            ended = { code, signal: signal ?? null };
          });
          channel.on('close', () => {
            if (ended) done(undefined, { ...ended, stdout: stdout(), stderr: stderr() });
            else done(failed('did not come to its end'));
          });
          channel.on('error', () => {}); // it is closed, too
          channel.end(input);
        });
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /** sshd counts a session for a moment after its program has ended: one that it did not open is asked for again. */
  #exec(command: string, done: (error: Error | undefined, channel?: ClientChannel) => void, triesLeft = 60): void {
    this.#client.exec(command, (error, channel) => {
      const isRefused = error && 'reason' in error && error.reason === notOpened;
      if (!isRefused || triesLeft === 0 || this.#cut) return done(error, channel);
      setTimeout(() => {
        try {
          this.#exec(command, done, triesLeft - 1);
        } catch (cut) {
          done(cut as Error);
        }
      }, openAgainMs);
    });
  }

  #sftp(): Promise<SFTPWrapper> {
    this.#files ??= this.#untilCut<SFTPWrapper>((done) => this.#client.sftp(done));
    return this.#files;
  }

  /** What is under way when the connection is cut will not be answered. */
  #untilCut<T>(act: (done: (error: Error | undefined | null, value?: T) => void) => void): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    if (this.#cut) reject(this.#cut);
    else {
      const cut = () => reject(this.#cut);
      this.#onCut.push(cut);
      const settle = () => {
        const place = this.#onCut.indexOf(cut);
        if (place >= 0) this.#onCut.splice(place, 1);
      };
      try {
        act((error, value) => {
          settle();
          if (error) reject(error);
          else resolve(value as T);
        });
      } catch (error) {
        settle();
        reject(new TargetError('later', `The connection to ${this.#name} was cut: ${(error as Error).message}`));
      }
    }
    return promise;
  }
}

/** The host key that a machine shows, before anything is known of it: nothing is signed in with. */
export async function shownHostKey(to: Omit<SshAddress, 'hostKey'>): Promise<string> {
  const { Client, utils } = await loaded();
  const client = new Client();
  const socket = await reached(to);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  client.on('error', (error) =>
    reject(new TargetError('later', `${to.address}:${to.port} cannot be reached: ${error.message}`)),
  );
  client.on('close', () => reject(new TargetError('later', `${to.address}:${to.port} closed the connection.`)));
  const hostVerifier = (key: Buffer) => {
    const parsed = utils.parseKey(key) as ParsedKey | Error;
    resolve(parsed instanceof Error ? fingerprint(key) : `${parsed.type} ${key.toString('base64')}`);
    return false;
  };
  client.connect({ username: to.user, readyTimeout: connectWithinMs, sock: socket, hostVerifier });
  return promise.finally(() => {
    client.destroy();
    socket.destroy();
  });
}

/** A new pair, in the forms that sshd reads. */
export async function newKeys(): Promise<{ private: string; public: string }> {
  const { utils } = await loaded();
  return utils.generateKeyPairSync('ed25519');
}

/** Loaded by those who need it only. */
async function loaded(): Promise<Pick<typeof import('ssh2'), 'Client' | 'utils'>> {
  return (await import('ssh2')).default;
}

async function reached({ address, port }: Pick<SshAddress, 'address' | 'port'>): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connectTcp({ host: address, port, noDelay: true });
  const timer = setTimeout(() => reject(new Error('it does not answer')), connectWithinMs);
  socket.once('connect', resolve);
  socket.once('error', reject);
  try {
    await promise;
    return socket;
  } catch (error) {
    socket.destroy();
    throw new TargetError('later', `${address}:${port} cannot be reached: ${(error as Error).message}`);
  } finally {
    clearTimeout(timer);
    socket.removeListener('error', reject);
  }
}

export function isKnownBy(key: Buffer, known: string): boolean {
  if (known.startsWith('SHA256:')) return fingerprint(key) === known.replace(/=+$/, '');
  return key.toString('base64') === known.split(' ')[1];
}

function fingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

/** How a key of a type signs. */
function signaturesOf(type: string): NonNullable<NonNullable<ConnectConfig['algorithms']>['serverHostKey']> {
  return (type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]) as never;
}
