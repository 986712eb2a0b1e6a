// Item 11: the model registry, from the outputs of runs and from outside, to the image that holds on to a model.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Image } from '@stellwerk/contract/image.ts';
import type { Model } from '@stellwerk/contract/model.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { runOf } from './submission.ts';
import { asked, typed } from './typing.ts';
import { workFolder } from './work-folder.ts';

let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start();
});
afterAll(() => installation?.[Symbol.asyncDispose]());

const ask = <T>(...args: string[]) => asked<T>(installation, ...args);
const idsOf = async (...args: string[]) =>
  (await ask<{ items: Model[] }>('model', 'list', ...args)).items.map(({ id }) => id);

test('from the outputs of a run come a file and a folder, with their lineage; by the script itself, by command, and from its child', async () => {
  const ran = await runOf(installation, {
    environment: { userManaged: true },
    code: `
import os
from stellwerk.core import Run
run = Run.get_context()
os.makedirs('outputs/ein Ordner/tief', exist_ok=True)
open('outputs/ein Ordner/gewichte.bin', 'wb').write(bytes(range(256)))
open('outputs/ein Ordner/tief/ü.json', 'w').write('{}')
with run.child_run(name='child') as child:
    child.upload_file('outputs/modell.pkl', 'outputs/ein Ordner/gewichte.bin')
    model = child.register_model('vom Kind', 'outputs/modell.pkl', tags={'by': 'script'}, model_framework='Own')
    print('registered', model.id)`,
  });
  expect(ran.state, `${ran.reason} ${ran.printed}`).toBe('completed');
  expect(ran.printed).toContain('registered vom Kind:1');
  const child = await ask<Model>('model', 'get', 'vom Kind');
  expect(child).toMatchObject({
    framework: 'Own',
    tags: { by: 'script' },
    isFolder: false,
    path: 'outputs/modell.pkl',
  });
  expect((await ask<{ parent: string }>('run', 'get', child.run!)).parent).toBe(ran.id);

  const folder = await ask<Model>(
    'model',
    'register',
    '--run',
    ran.id,
    '--path',
    'outputs/ein Ordner',
    '--name',
    'ordner',
  );
  expect(folder).toMatchObject({
    id: 'ordner:1',
    run: ran.id,
    experiment: ran.experiment,
    isFolder: true,
    fileCount: 2,
    sizeBytes: 258,
  });
  await typed(installation, 'model', 'download', 'ordner', '--output', 'ein Modell');
  const back = join(installation.folder, 'ein Modell');
  expect(readdirSync(back, { recursive: true }).sort()).toEqual(['gewichte.bin', 'tief', 'tief/ü.json']);
  expect([...readFileSync(join(back, 'gewichte.bin'))]).toEqual(Array.from({ length: 256 }, (_, at) => at));

  const nowhere = await installation.cli([
    'model',
    'register',
    '--run',
    ran.id,
    '--path',
    'outputs/none',
    '--name',
    'x',
  ]);
  expect(nowhere).toMatchObject({ code: 1, stderr: expect.stringContaining('outputs/none') });
  expect(await idsOf('--run', ran.id)).toEqual(['ordner:1']);
});

test('registering a name again makes the next version, and an alias moves from one to the next', async () => {
  const folder = workFolder(installation.folder, { 'eins.bin': 'eins', 'zwei.bin': 'zwei' });
  const file = (name: string) => join(folder, name);
  await typed(
    installation,
    'model',
    'register',
    file('eins.bin'),
    '--name',
    'klein',
    '--tags',
    'kind=a',
    '--framework',
    'Own',
  );
  await typed(installation, 'model', 'register', file('zwei.bin'), '--name', 'klein', '--tags', 'kind=b');
  await typed(installation, 'model', 'set-alias', 'klein', 'champion', '1');
  const champion = async () => (await ask<Model>('model', 'get', 'klein:champion')).version;
  expect(await champion()).toBe(1);
  await typed(installation, 'model', 'set-alias', 'klein', 'champion', '2');
  expect(await champion()).toBe(2);
  expect((await ask<Model>('model', 'get', 'klein:1')).aliases).toEqual([]);
  await typed(installation, 'model', 'download', 'klein:champion', '--output', 'geholt');
  expect(readFileSync(join(installation.folder, 'geholt', 'zwei.bin'), 'utf8')).toBe('zwei');

  expect(await idsOf('--name', 'klein')).toEqual(['klein:2', 'klein:1']);
  expect(await idsOf('--name', 'klein', '--latest')).toEqual(['klein:2']);
  expect(await idsOf('--tag', 'kind=a')).toEqual(['klein:1']);
  expect(await idsOf('--name', 'klein', '--framework', 'Own')).toEqual(['klein:1']);
  await typed(installation, 'model', 'update', 'klein:1', '--description', 'Das erste', '--tags', 'stage=old');
  expect(await ask('model', 'get', 'klein:1')).toMatchObject({
    description: 'Das erste',
    tags: { kind: 'a', stage: 'old' },
  });

  await typed(installation, 'model', 'delete', 'klein:2');
  expect((await installation.cli(['model', 'get', 'klein:champion'])).code).toBe(1);
  const next = await ask<Model>('model', 'register', file('zwei.bin'), '--name', 'klein');
  expect(next.version, 'a number is never given twice').toBe(3);
});

test('a folder of Python goes up, is found, and comes back with Model of the SDK', async () => {
  const folder = workFolder(installation.folder, { 'a b/ü.txt': 'x\r\n', 'c.bin': 'c', 'd\r\ne': 'x' });
  const script = `
import os
from stellwerk.core import *
workspace = Workspace.from_config()
model = Model.register(workspace, ${JSON.stringify(folder)}, 'aus Python', tags={'language': 'python'}, description='Ein Ordner')
print(model.id, [one.id for one in Model.list(workspace, tags=[['language', 'python']])])
place = Model(workspace, 'aus Python').download('geladen')
print(sorted(os.path.relpath(os.path.join(top, name), place) for top, _, names in os.walk(place) for name in names))`;
  const done = await installation.python(['-c', script]);
  expect(done.code, done.stderr).toBe(0);
  expect(done.stdout.trim().split('\n')).toEqual([
    "aus Python:1 ['aus Python:1']",
    "['a b/ü.txt', 'c.bin', 'd\\r\\ne']",
  ]);
});

test('a model that an image uses is not deleted, and the refusal names the image; without the image it goes', async () => {
  const source = workFolder(installation.folder, {
    'm.bin': 'm',
    'score.py': 'def init(): pass\ndef run(data): return data\n',
  });
  await typed(installation, 'model', 'register', join(source, 'm.bin'), '--name', 'gebraucht');
  const image = await ask<Image>('image', 'create', source, '--name', 'haelt', '--model', 'gebraucht');
  expect((await ask<Model>('model', 'get', 'gebraucht')).images).toEqual([image.id]);
  const refused = await installation.cli(['model', 'delete', 'gebraucht:1']);
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('haelt:1') });
  await typed(installation, 'image', 'delete', image.id);
  await typed(installation, 'model', 'delete', 'gebraucht:1');
  expect(await idsOf('--name', 'gebraucht')).toEqual([]);
});
