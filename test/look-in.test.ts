// Somebody looks in on a running script: with a program beside it, and with a connection to a port that it listens on.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { forwarded } from './forwarding.ts';
import { Installation } from './installation.ts';
import { processesWith } from './processes.ts';
import { pythonSignals, Signals } from './signals.ts';
import { submit } from './submission.ts';
import { typed } from './typing.ts';
import { until, untilEnded } from './waiting.ts';

const workspace = 'story';
let installation: Installation;
let signals: Signals;
let run: string;

const script = `${pythonSignals}
import http.server, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"the page of the run " + self.path.encode() * 1000
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
open("kept.txt", "w").write("in its folder")
tell("port", str(server.server_address[1]))
wait("go on")
`;

beforeAll(async () => {
  installation = await Installation.start();
  signals = new Signals(installation.folder);
  const environmentVariables = { ...signals.environmentVariables, MARKED: 'as the script has it' };
  run = (await submit(installation, { code: script, environment: { userManaged: true }, environmentVariables })).id;
  await signals.told('port');
});
afterAll(() => installation?.[Symbol.asyncDispose]());

const exec = (...program: string[]) => installation.cli(['run', 'exec', run, '--', ...program]);

test('a program runs in the folder and with the environment of the script; its output, errors and exit code come back', async () => {
  const { code, stdout, stderr } = await exec('sh', '-c', 'cat kept.txt; echo " $MARKED"; echo wrong >&2; exit 7');
  expect({ code, stdout, stderr }).toEqual({
    code: 7,
    stdout: 'in its folder as the script has it\n',
    stderr: 'wrong\n',
  });
  expect(await exec('no-such-program')).toMatchObject({
    code: 127,
    stderr: expect.stringContaining('no-such-program'),
  });
  const large = await exec('python3', '-c', 'print("x" * 5_000_000)');
  expect(large.stdout.length).toBe(5_000_001);
});

test('what is typed goes in, and a program whose user is gone is ended', async () => {
  const { client } = installation;
  const of = { workspace, run };
  const opened = { ...of, ...(await client.sessions.exec({ ...of, command: ['sh', '-c', 'tr a-z A-Z'] })) };
  const received = client.sessions.receive(opened).then(async (answer) => Buffer.from(await answer.arrayBuffer()));
  await client.sessions.send(opened, 'first ');
  await client.sessions.send({ ...opened, end: true }, 'second');
  expect((await received).toString('latin1')).toBe('\u0001\0\0\0\0\u0001\0\0\0\u000cFIRST SECOND\u0003\0\0\0\u00010');
  await expect(client.sessions.send(opened, 'more')).rejects.toMatchObject({ reason: 'run.session-not-found' });

  const mark = 'sleep 987654';
  const sleeping = { ...of, ...(await client.sessions.exec({ ...of, command: ['sh', '-c', `${mark}; true`] })) };
  const gone = new AbortController();
  await client.sessions.receive(sleeping, { signal: gone.signal });
  await until('it runs', () => processesWith(mark).length > 0);
  gone.abort();
  await until('it has been ended', () => processesWith(mark).length === 0);
});

test('a port here leads to one there, for many connections at once', async () => {
  await using here = await forwarded(installation, run, await signals.told('port'));
  const pages = await Promise.all(
    Array.from({ length: 20 }, (_, at) => fetch(`http://${here.address}/${at}`).then((answer) => answer.text())),
  );
  expect(pages).toEqual(Array.from({ length: 20 }, (_, at) => `the page of the run ${`/${at}`.repeat(1_000)}`));
});

test('a session is its owner’s, a Reader opens none, and what was opened is in the audit log', async () => {
  const { client } = installation;
  const of = { workspace, run };
  const { session } = await client.sessions.exec({ ...of, command: ['sleep', '5'] });
  const signedIn = async (name: string, role: 'reader' | 'contributor') => {
    const { signIn } = await client.users.create({ name });
    await client.members.set({ workspace, user: name, role });
    return installation.clientWith((await client.signIns.redeem({ code: signIn!.code })).token);
  };
  const other = await signedIn('mia', 'contributor');
  const { receive, send } = other.sessions;
  for (const act of [() => receive({ ...of, session }), () => send({ ...of, session }, 'x')])
    await expect(act()).rejects.toMatchObject({ reason: 'run.session-not-found' });
  const reader = await signedIn('leo', 'reader');
  await expect(reader.sessions.exec({ ...of, command: ['true'] })).rejects.toMatchObject({ reason: 'access.denied' });
  const verbs = (await client.audit.listWorkspace({ workspace })).items.map(
    ({ verb, subject }) => `${verb} ${subject}`,
  );
  expect(verbs).toContain(`sessions.exec ${run}`);
  expect(verbs).toContain(`sessions.connect ${run}`);
  expect(verbs.filter((line) => line.startsWith('sessions.send'))).toEqual([]);
});

test('it ends with the script, and nobody looks in on what does not run', async () => {
  const { client } = installation;
  const of = { workspace, run };
  const opened = { ...of, ...(await client.sessions.exec({ ...of, command: ['sleep', '987655'] })) };
  const received = client.sessions.receive(opened).then((answer) => answer.arrayBuffer());
  await until('it runs', () => processesWith('987655').length > 0);
  signals.tell('go on');
  expect(await untilEnded({ client, workspace, run })).toMatchObject({ state: 'completed' });
  await received.catch(() => {});
  await until('it has been ended', () => processesWith('987655').length === 0);
  await expect(client.sessions.exec({ ...of, command: ['true'] })).rejects.toMatchObject({ reason: 'run.not-open' });
  await expect(typed(installation, 'run', 'exec', run, '--', 'true')).rejects.toThrow('completed');
});
