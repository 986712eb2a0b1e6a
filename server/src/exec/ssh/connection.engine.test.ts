import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SshHost, whyNoSshHost } from '../../../../test/engines/ssh/ssh-host.ts';
import { SshConnection, type SshSignIn, shownHostKey } from './connection.ts';
import { SshConnections } from './connections.ts';

describe.skipIf(whyNoSshHost)(`a connection by ssh${whyNoSshHost ? ` (${whyNoSshHost})` : ''}`, () => {
  let host: SshHost;
  beforeAll(async () => {
    host = await SshHost.up();
  });
  afterAll(() => host?.down());
  const where = (hostKey = host.hostKey) => ({ address: host.address, port: host.port, user: host.user, hostKey });
  const open = (signIn: SshSignIn = { key: host.key() }, hostKey?: string) =>
    SshConnection.open(where(hostKey), signIn);

  test.each<[string, () => SshSignIn]>([
    ['a password', () => ({ password: host.password })],
    ['a key', () => ({ key: host.key() })],
    ['a key with a passphrase', () => ({ key: host.key('locked'), passphrase: host.passphrase })],
  ])('is signed in with %s', async (_, signIn) => {
    const connection = await open(signIn());
    expect((await connection.run({ words: ['id', '-un'] })).stdout).toBe(`${host.user}\n`);
    connection.close();
  });

  test.each<[string, () => SshSignIn, string]>([
    ['another password', () => ({ password: 'guessed' }), 'refused the sign-in'],
    ['a key without its passphrase', () => ({ key: host.key('locked') }), 'cannot be used'],
    ['a key with another passphrase', () => ({ key: host.key('locked'), passphrase: 'guessed' }), 'cannot be used'],
    ['what is no key', () => ({ key: 'secret text' }), 'cannot be used'],
  ])('is refused for good with %s, which the message does not show', async (_, signIn, why) => {
    const error = await open(signIn()).catch((refused) => refused);
    expect(error).toMatchObject({ name: 'TargetError', retry: 'never' });
    expect(error.message).toContain(why);
    expect(error.message).not.toMatch(/guessed|secret text/);
  });

  test('shows its host key to whoever asks, and is opened by that or its fingerprint', async () => {
    expect(await shownHostKey(where())).toBe(host.hostKey);
    (await open(undefined, host.fingerprint)).close();
  });

  test('a machine that shows another host key than the one it is known by is told nothing', async () => {
    const other = `ssh-ed25519 ${randomBytes(51).toString('base64')}`;
    await expect(open({ password: host.password }, other)).rejects.toMatchObject({
      retry: 'never',
      message: expect.stringContaining('another host key (SHA256:'),
    });
  });

  test('a machine that is not there is for later', async () => {
    await expect(SshConnection.open({ ...where(), port: 1 }, { password: 'x' })).rejects.toMatchObject({
      retry: 'later',
    });
  });

  test('programs get their words, variables and input as they are, and give both streams and their code', async () => {
    const connection = await open();
    const words = [
      'python3',
      '-c',
      'import os,sys; print(sys.argv[1:], os.environ["A"]); print(sys.stdin.read(), file=sys.stderr); sys.exit(3)',
    ];
    const nasty = ["it's $(id) `x`", '; rm -rf .', '\n'];
    const ended = await connection.run({ words: [...words, ...nasty], env: { A: '$HOME "' }, input: 'in\n' });
    expect(ended).toMatchObject({
      code: 3,
      signal: null,
      stdout: `["it's $(id) \`x\`", '; rm -rf .', '\\n'] $HOME "\n`,
      stderr: 'in\n\n',
    });
    expect(await connection.run({ words: ['sh', '-c', 'kill -9 $$'] })).toMatchObject({
      code: null,
      signal: 'SIGKILL',
    });
    expect((await connection.run({ words: ['no-such-program'] })).code).toBe(127);
    connection.close();
  });

  test('more programs at a time than sshd grants sessions wait for each other', async () => {
    const connection = await open();
    const all = Array.from({ length: 40 }, (_, n) => connection.run({ words: ['echo', String(n)] }));
    expect((await Promise.all(all)).map(({ stdout }) => Number(stdout))).toEqual(
      Array.from({ length: 40 }, (_, n) => n),
    );
    connection.close();
  });

  test('a program for which sshd has no session now is started once it has one', async () => {
    const connection = await open();
    const granted = Array.from({ length: 10 }, () => connection.stream({ words: ['sleep', '1'] }));
    await Promise.all(granted);
    expect(await connection.run({ words: ['echo', 'started'] })).toMatchObject({ code: 0, stdout: 'started\n' });
    connection.close();
  });

  test('a file is put whole, in place of what was there, for the user alone', async () => {
    const connection = await open();
    const content = randomBytes(3_000_000);
    const path = `${host.home}/put ü`;
    for (const bytes of [Buffer.from('before'), content]) await connection.put(bytes, path);
    expect(host.shell(`sha256sum < '${path}'; stat -c %a '${path}'; ls ${host.home}`)).toContain('\n600\nput ü\n');
    expect((await connection.run({ words: ['cmp', path, '-'], input: content })).code).toBe(0);
    connection.close();
  });

  test('a file for which there is no room is not there, not even in part', async () => {
    await using small = await SshHost.up({ diskMegabytes: 8 });
    const connection = await SshConnection.open(
      { ...where(), address: small.address, hostKey: small.hostKey },
      { key: small.key() },
    );
    await expect(connection.put(randomBytes(20_000_000), `${small.home}/big`)).rejects.toMatchObject({
      retry: 'later',
    });
    await pause(200);
    expect(small.shell(`ls ${small.home}`)).toBe('');
    connection.close();
  });

  test('a socket over there leads back here, for many at a time, and is refused when nobody answers here', async () => {
    const server = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const connection = await open();
    const path = `${host.home}/back`;
    await connection.relay(path, () => connect(port, '127.0.0.1'));
    const say =
      'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b"x"*100000); n=0\nwhile n<100000: n+=len(s.recv(65536)) or sys.exit("cut")\nprint(n)';
    const ended = await Promise.all(
      Array.from({ length: 8 }, () => connection.run({ words: ['python3', '-c', say, path] })),
    );
    expect(ended.map(({ stdout }) => stdout)).toEqual(new Array(8).fill('100000\n'));
    server.close();
    expect((await connection.run({ words: ['python3', '-c', say, path] })).code).toBe(1);
    connection.close();
  });

  test('is shared, and made anew after a cut, which ends what was under way', async () => {
    const connections = new SshConnections<{ connection: SshConnection }>();
    let made = 0;
    const get = () =>
      connections.get('x', async () => {
        made++;
        return { connection: await open() };
      });
    const [first, second] = await Promise.all([get(), get()]);
    expect(first).toBe(second);
    const endless = first.connection.run({ words: ['sleep', '600'] }).catch((error) => error);
    host.killSshd();
    expect(await endless).toMatchObject({ name: 'TargetError', retry: 'later' });
    expect(first.connection.isOpen).toBe(false);
    await expect(get()).rejects.toMatchObject({ retry: 'later' });
    await host.startSshd();
    expect((await (await get()).connection.run({ words: ['echo', 'again'] })).stdout).toBe('again\n');
    expect(made).toBe(3);
    (await get()).connection.close();
  });

  test('a link that is cut is noticed, although nobody says so', async () => {
    const connection = await open();
    const cut = new Promise<void>((resolve) => connection.onCut(resolve));
    host.cutLink();
    try {
      await cut;
    } finally {
      host.mendLink();
    }
    await expect(connection.run({ words: ['true'] })).rejects.toMatchObject({ retry: 'later' });
  });
});
