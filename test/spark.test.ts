// A team's Spark cluster: attached by its head node with a key from the vault, by command line and from a notebook; a script trains on it with
// pyspark.ml, by spark-submit and by Livy, and gets the metrics that it gets on one machine; what is canceled leaves nothing there.
import { cpSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Run } from '@stellwerk/contract/run.ts';
import type { RunConfigurationInput } from '@stellwerk/contract/run-configuration.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeWheel, servePackages } from '../server/src/environment/package-index.fixture.ts';
import { SparkCluster, whyNoJars, whyNoSpark } from './engines/spark/spark-cluster.ts';
import { Installation, repository } from './installation.ts';
import { runOf, submit } from './submission.ts';
import { until, untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const workspace = 'story';
const spark = { driverMemory: '512m', executors: { count: 2, cores: 1, memory: '512m' } };
/** As the server keeps it for itself, once it has made an environment. */
const uvOfServer = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'stellwerk/server/tools/uv/bin/uv');

describe.skipIf(whyNoSpark)(`a Spark cluster${whyNoSpark ? ` (${whyNoSpark})` : ''}`, () => {
  let installation: Installation;
  let cluster: SparkCluster;
  beforeAll(async () => {
    cluster = await SparkCluster.up({ livy: !whyNoJars });
    installation = await Installation.start([]);
    const kept = await installation.cli(['secret', 'set', 'hdi-key', '--stdin'], { input: cluster.host.key() });
    expect(kept.code, kept.stderr).toBe(0);
  });
  afterAll(async () => {
    await installation?.[Symbol.asyncDispose]();
    await cluster?.down();
  });

  const named = (run: Pick<Run, 'id'>) => ({ workspace, run: run.id });
  const place = (run: Pick<Run, 'id'>) => ({ client: installation.client, ...named(run) });
  const userManaged = () => ({ environment: { userManaged: true, interpreterPath: cluster.python } });
  const nothingIsLeft = () =>
    until('nothing is left', () => {
      const { host } = cluster;
      const jobs = host.shell(`ls ${host.home}/.stellwerk/*/jobs`).split('\n');
      const processes = host.processes().filter((line) => !line.includes('LivyServer'));
      const left = [...jobs.filter((line) => /^[0-9a-f]{32}$/.test(line)), ...processes];
      return [...left, ...cluster.applications(), ...cluster.executors()].length === 0;
    });

  /** What came of the iris example. */
  async function irisOn(target: string, configuration: Partial<RunConfigurationInput>) {
    const folder = workFolder(installation.folder, {});
    cpSync(join(repository, 'examples', 'iris-spark'), folder, { recursive: true });
    const file = join(folder, 'it.runconfig');
    writeFileSync(file, JSON.stringify({ script: 'train.py', target, ...userManaged(), ...configuration }));
    const args = ['run', 'submit', folder, '--configuration', file, '--experiment', 'iris', '--json'];
    const done = await installation.cli(args);
    expect(done.code, done.stderr).toBe(0);
    const run = await untilEnded(place(JSON.parse(done.stdout)));
    expect(run, `${run.reason}\n${run.lastLines?.join('\n')}`).toMatchObject({ state: 'completed' });
    const { items } = await installation.client.metrics.list(named(run));
    const files = await installation.client.runs.listFiles(named(run));
    return {
      run,
      printed: await (await installation.client.logs.get(named(run))).text(),
      came: {
        metrics: items.map(({ name, count, last }) => [name, count, last]).sort(),
        files: files.items.map(({ path, digest }) => [path, digest]).sort(),
      },
    };
  }
  const irisHere = () => {
    const environmentVariables = {
      PYSPARK_SUBMIT_ARGS: '--master local[1] pyspark-shell',
      PYSPARK_PYTHON: cluster.python,
    };
    return irisOn('host', { environmentVariables });
  };

  test('is attached by its head node, and trains the iris example with the metrics of one machine', async () => {
    const { address, port, user, hostKey } = cluster.host;
    const place = ['--address', address, '--port', String(port), '--user', user, '--host-key', hostKey];
    const more = ['--key', 'hdi-key', '--master', cluster.master];
    const attached = await installation.cli(['compute', 'attach', 'hdi', '--kind', 'spark', ...place, ...more]);
    expect(attached.code, attached.stderr).toBe(0);
    const there = await irisOn('hdi', { framework: 'PySpark', spark });
    expect(there.printed).toContain(cluster.master); // what Spark logs may come in the middle of a line
    expect(there.run.job).toMatchObject({
      application: expect.stringMatching(/^app-\d+-\d+$/),
      url: expect.stringMatching(/^http:\/\/sw.+:40\d\d$/),
    });
    const names = there.came.metrics.map(([name]) => name);
    expect(names).toEqual(expect.arrayContaining(['accuracy', 'f1', 'objective']));
    const here = await irisHere();
    expect(here.printed).toContain('local[1]');
    expect(there.came).toEqual(here.came);
    await nothingIsLeft();
  });

  test.skipIf(whyNoJars)('by Livy it trains the same', async () => {
    const { address, port, user, hostKey } = cluster.host;
    const settings = { kind: 'spark' as const, address, port, user, hostKey, key: 'hdi-key', livy: cluster.livy };
    await installation.client.compute.attach({ workspace, name: 'livy', settings });
    const there = await irisOn('livy', { framework: 'PySpark', spark });
    expect(there.printed).toContain(cluster.master); // what Spark logs may come in the middle of a line
    expect(there.run.job).toMatchObject({ id: 'batch 0', application: expect.stringMatching(/^app-\d+-\d+$/) });
    expect(there.came).toEqual((await irisHere()).came);
    await nothingIsLeft();
    expect(cluster.batches()).toEqual([]);
  });

  test('its executors use the Python of the script, and the modules that the run configuration names', async () => {
    const code = `
import sys
from pyspark.sql import SparkSession
context = SparkSession.builder.getOrCreate().sparkContext
def python(number):
    import doubled
    return sys.executable, doubled.double(number)
print(context.parallelize([1, 2], 2).map(python).collect() == [(sys.executable, 2), (sys.executable, 4)], sys.executable, flush=True)
`;
    const files = { 'more/doubled.py': 'def double(number):\n    return 2 * number\n' };
    const asked = { spark: { ...spark, pyFiles: ['more/doubled.py'] }, framework: 'PySpark' as const };
    const run = await submit(installation, { code, files, target: 'hdi', ...asked, ...userManaged() });
    const ended = await untilEnded(place(run));
    expect(ended, `${ended.reason}\n${ended.lastLines?.join('\n')}`).toMatchObject({ state: 'completed' });
    const printed = await (await installation.client.logs.get(named(run))).text();
    expect(printed).toContain(`True ${cluster.python}`);
  });

  test('an environment that is described is made on the head node, and its packages are in driver and executors', async () => {
    const package_ = await makeWheel('own_words', '1.2', { 'own_words.py': 'def double(n):\n    return 2 * n\n' });
    const user = { name: 'reader', password: 'that reads' };
    await using index = await servePackages([package_], user, () => {}, cluster.host.reached);
    const [name, password] = [user.name, user.password];
    await installation.client.packageIndexes.set({
      extraIndexUrls: [index.url],
      credentials: [{ url: index.url, username: name, password }],
    });
    const environment = { requirements: ['own-words==1.2'] };
    const here = await runOf(installation, {
      code: 'import own_words, shutil; print(own_words.double(4))',
      environment,
    });
    expect(here.printed, here.reason).toContain('8');
    cluster.host.shell(`install -m 755 ${uvOfServer} /usr/local/bin/uv && chmod o+x ${cluster.host.home}`);
    const code = `
import sys
from pyspark.sql import SparkSession
context = SparkSession.builder.getOrCreate().sparkContext
def python(number):
    import own_words
    return sys.executable, own_words.double(number)
print(context.parallelize([1, 2], 2).map(python).collect() == [(sys.executable, 2), (sys.executable, 4)], sys.executable, flush=True)
`;
    const there = await runOf(installation, { code, environment, target: 'hdi', framework: 'PySpark', spark });
    expect(there.state, `${there.reason}\n${there.printed}`).toBe('completed');
    expect(there.printed).toMatch(/^True .+\/cache\/environments\/.+\/bin\/python$/m);
    await nothingIsLeft();
  });

  test('a canceled run leaves no process, no executor and no application', async () => {
    const code = `
from pyspark.sql import SparkSession
context = SparkSession.builder.getOrCreate().sparkContext
print("sum", context.parallelize(range(100), 2).sum(), flush=True)
context.parallelize(range(2), 2).map(lambda _: __import__("time").sleep(600)).collect()
`;
    const run = await submit(installation, { code, target: 'hdi', framework: 'PySpark', spark, ...userManaged() });
    await until('it computes', async () =>
      (await (await installation.client.logs.get(named(run))).text()).includes('sum 4950'),
    );
    expect(cluster.applications()).toHaveLength(1);
    await installation.client.runs.cancel(named(run));
    expect(await untilEnded(place(run))).toMatchObject({ state: 'canceled' });
    await nothingIsLeft();
  });

  test('what the cluster cannot do is refused at once', async () => {
    const refused = (configuration: Partial<RunConfigurationInput>) =>
      submit(installation, { target: 'hdi', ...userManaged(), ...configuration }).then(
        () => '',
        (error: Error) => error.message,
      );
    const framework = 'PySpark' as const;
    expect(await refused({ framework, spark: { deployMode: 'cluster' } })).toContain('in cluster mode; use client');
    expect(await refused({ spark })).toContain('it is for the framework PySpark');
    expect(await refused({ framework, spark: { settings: { 'spark master': 'x' } } })).toContain('spark');
    expect(await refused({ framework, target: 'host' })).toContain('not PySpark');
  });

  test('is attached from a notebook with the names of before, and a run is described with them', async () => {
    const key = join(installation.folder, 'key');
    writeFileSync(key, cluster.host.key());
    const folder = workFolder(installation.folder, {
      'count.py':
        'from pyspark.sql import SparkSession\nfrom stellwerk.core import Run\nRun.get_context().log("rows", SparkSession.builder.getOrCreate().range(42).count())\n',
    });
    const code = `
import sys
from stellwerk.core import Experiment, ScriptRunConfig, Workspace
from stellwerk.core.compute import ComputeTarget, HDInsightCompute
from stellwerk.core.runconfig import RunConfiguration
address, port, user, key, host_key, master, python, folder = sys.argv[1:]
workspace = Workspace.get("story")
settings = HDInsightCompute.attach_configuration(username=user, address=address, ssh_port=int(port), private_key_file=key, host_key=host_key, master=master)
target = ComputeTarget.attach(workspace, "notebook-hdi", settings)
target.wait_for_completion(show_output=True)
print(type(ComputeTarget(workspace, "notebook-hdi")).__name__)
wanted = RunConfiguration(framework="PySpark")
wanted.target = "notebook-hdi"
wanted.environment.python.user_managed_dependencies = True
wanted.environment.python.interpreter_path = python
wanted.spark.configuration["spark.driver.memory"] = "512m"
wanted.spark.configuration["spark.executor.memory"] = "512m"
run = Experiment(workspace, "iris").submit(ScriptRunConfig(folder, "count.py", run_config=wanted))
run.wait_for_completion()
print(run.get_status(), run.get_metrics())
`;
    const { address, port, user, hostKey } = cluster.host;
    const args = [address, String(port), user, key, hostKey, cluster.master, cluster.python, folder];
    const done = await installation.python(['-c', code, ...args]);
    expect(done.stdout.split('\n'), done.stderr).toEqual([
      'notebook-hdi: Succeeded',
      'HDInsightCompute',
      "Completed {'rows': 42.0}",
      '',
    ]);
  });
});
