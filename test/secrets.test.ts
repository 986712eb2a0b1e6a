// Secrets stay where they are needed: not on a command line, in no environment but that of the run's own script, in no log, no image and,
// as they are, nowhere in the data folder.
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { uploadSnapshot } from '@stellwerk/client/snapshots.ts';
import { expect, test } from 'vitest';
import { makeWheel, servePackages } from '../server/src/environment/package-index.fixture.ts';
import { ociArchiveOf, plainOf } from './image-archive.ts';
import { Installation } from './installation.ts';
import { pythonSignals, Signals } from './signals.ts';
import { typed } from './typing.ts';
import { untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

/** What the run's script alone is given, and what the server alone knows. */
const ofRun = `run-${randomUUID()}`;
const ofIndex = `index-${randomUUID()}`;
const ofVault = `vault-${randomUUID()}`;
const unused = `unused-${randomUUID()}`;

const script = `${pythonSignals}
value = os.environ["STORY_MARK"]
print("value", value)
with open(os.path.join(os.environ["STELLWERK_SECRETS"], "named")) as file:
    print("named", file.read())
with open(os.path.join(os.environ["STELLWERK_RUN_FOLDER"], "connection.json")) as file:
    tell("connection", file.read())
tell("pid", str(os.getpid()))
wait("go on")
`;

test('no secret of a run, of the server or of its users is on a command line, in a log, an image, or as it is in the data folder', async () => {
  await using installation = await Installation.start();
  const { client, workspace, folder } = installation;
  const signals = new Signals(folder);
  const sought = new Map([
    ['the secret of the run', ofRun],
    ['the password of the package index', ofIndex],
    ['the named secret of the vault', ofVault],
    ['another secret of the vault', unused],
    ['the token of the administrator', installation.token],
  ]);
  const seen = new Map<string, Set<string>>();
  const stop = new AbortController();
  const watching = watchProcesses(sought, seen, stop.signal);

  const { signIn } = await client.users.create({ name: 'gast' });
  sought.set('the code of a sign-in', signIn!.code);
  const { token } = await client.tokens.create({ name: 'story' });
  sought.set('a token of a user', token);
  const wheel = await makeWheel('haus_marke', '1.0', { 'haus_marke.py': "greeting = 'marked'\n" });
  await using index = await servePackages([wheel], { name: 'u', password: ofIndex });
  const credentials = join(workFolder(folder, {}), 'credentials.json');
  writeFileSync(credentials, JSON.stringify([{ url: index.url, username: 'u', password: ofIndex }]));
  const set = ['--extra-index-urls', index.url, '--credentials', `@${credentials}`];
  await typed(installation, 'package-index', 'set', ...set);

  await client.secrets.set({ workspace, name: 'named', value: ofVault });
  await client.secrets.set({ workspace, name: 'unused', value: unused });
  const { digest: snapshot } = await uploadSnapshot(client, workspace, workFolder(folder, { 'main.py': script }));
  const run = await client.runs.submit({
    workspace,
    experiment: 'marked',
    snapshot,
    configuration: {
      script: 'main.py',
      target: 'host',
      environment: { requirements: ['haus-marke==1.0'] },
      environmentVariables: signals.environmentVariables,
      secrets: ['STORY_MARK'],
      vaultSecrets: ['named'],
    },
    secrets: { STORY_MARK: ofRun },
  });
  const { token: ofTheRun } = JSON.parse(await signals.told('connection')) as { token: string };
  expect(ofTheRun).toMatch(/\w{20}/);
  sought.set('the token of the run', ofTheRun);
  const scriptPid = Number(await signals.told('pid'));
  const score = 'import haus_marke\ndef init(): pass\ndef run(data): return data\n';
  const scoring = workFolder(folder, { 'score.py': score });
  const needs = ['--environment.requirements', 'haus-marke==1.0'];
  await typed(installation, 'image', 'create', scoring, '--name', 'bild', ...needs);
  expect(heldIn(folder, sought), 'while it runs').toEqual([]);
  signals.tell('go on');
  const ended = await untilEnded({ client, workspace, run: run.id });
  expect(ended.state, ended.reason).toBe('completed');
  stop.abort();
  await watching;
  expect(seen.get('on a command line')).toBeUndefined();
  const inEnvironments = [...(seen.get('in an environment') ?? [])];
  // uv is told how to sign in by its environment, and passes that on to the interpreter that it asks for its version.
  const others = inEnvironments.filter(
    (one) => !/^the password of the package index: \d+ \S*(\/uv |.*get_interpreter_info)/.test(one),
  );
  expect(others).toEqual([expect.stringMatching(`^the secret of the run: ${scriptPid} `)]);

  const logs = (await client.logs.list({ workspace, run: run.id })).items;
  const printed = await (await client.logs.get({ workspace, run: run.id })).text();
  expect(logs.length).toBeGreaterThan(0);
  expect(printed).toContain('value ***\nnamed ***');
  const archive = await ociArchiveOf(installation, 'bild');
  const layers = new Set(archive.layers.map(({ digest }) => digest.slice('sha256:'.length)));
  const parts = filesBelow(archive.folder); // its configuration and history, too
  expect(parts.length).toBeGreaterThan(layers.size + 2);
  for (const file of parts) {
    const bytes = readFileSync(file);
    const plain = Buffer.from(layers.has(basename(file)) ? plainOf(bytes) : bytes);
    for (const [what, value] of sought) expect([what, file, plain.includes(value)]).toEqual([what, file, false]);
  }
  await installation.stop(); // what is written is on the disk
  expect(heldIn(folder, sought)).toEqual([]);
});

/** What of it lies as it is in the data folder and beside it. The run's own folder, where its script finds it, goes with the run. */
function heldIn(folder: string, sought: ReadonlyMap<string, string>): string[] {
  const masterKey = readFileSync(join(folder, 'data', 'master.key'));
  const held: string[] = [];
  for (const file of [...filesBelow(join(folder, 'data')), ...filesBelow(join(folder, 'share'))]) {
    if (file.startsWith(join(folder, 'data', 'runs', '/'))) continue;
    const bytes = readFileSync(file);
    for (const [what, value] of sought) if (bytes.includes(value)) held.push(`${what}: ${file}`);
    if (!file.endsWith('master.key') && bytes.includes(masterKey)) held.push(`the master key: ${file}`);
  }
  return held;
}

/** Looks at all processes of the machine again and again; says where what stood. */
async function watchProcesses(
  sought: ReadonlyMap<string, string>,
  seen: Map<string, Set<string>>,
  stop: AbortSignal,
): Promise<void> {
  for (; !stop.aborted; await pause(20))
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
      for (const [where, name] of [
        ['on a command line', 'cmdline'],
        ['in an environment', 'environ'],
      ] as const) {
        const text = textOf(`/proc/${pid}/${name}`);
        const command = textOf(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
        for (const [what, value] of sought)
          if (text.includes(value)) seen.set(where, (seen.get(where) ?? new Set()).add(`${what}: ${pid} ${command}`));
      }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // it has ended
  }
}

function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return []; // runs lie there only if the server is not root
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
