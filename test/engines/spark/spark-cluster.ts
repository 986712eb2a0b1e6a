// A Spark of its own for tests: a machine with sshd (the head node), and on it a standalone master, its workers and, where it is wanted, a Livy
// server, all in that machine's namespaces, as another Unix user than that of the runs, but Livy, which executes batches as that of the runs. Or YARN
// in place of the standalone master: a resource manager and two node managers, whose containers belong to the user of the runs, as in a secure cluster.
// By hand: `node test/engines/spark/up.ts`.
import { spawnSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { SshHost, type SshHostOptions, whyNoSshHost } from '../ssh/ssh-host.ts';
import { jarsOf, pySpark } from './parts.ts';

const works = (command: string, ...args: string[]) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** Why this machine cannot have one, or undefined. */
export const whyNoSpark: string | undefined =
  whyNoSshHost ?? (works('java', '-version') ? undefined : 'needs Java 17 (Debian: openjdk-17-jre-headless)');
/** Why it cannot have Livy, nor YARN. */
export const whyNoJars: string | undefined =
  whyNoSpark ?? (works('mvn', '-version') ? undefined : 'needs Maven (Debian: maven)');

export interface SparkClusterOptions extends SshHostOptions {
  workers?: number;
  livy?: boolean;
  /** In place of a standalone master. */
  yarn?: boolean;
}

/** As the master tells it. */
export interface Application {
  id: string;
  name: string;
  cores: number;
  memoryperexecutor: number;
  state: string;
}

export interface YarnApplication {
  id: string;
  state: string;
  finalStatus: string;
  applicationTags: string;
}

const yarnDaemons = {
  resourcemanager: 'org.apache.hadoop.yarn.server.resourcemanager.ResourceManager',
  nodemanager: 'org.apache.hadoop.yarn.server.nodemanager.NodeManager',
};
const hadoopFolder = '/etc/hadoop';
const daemonMemory = '256m';
/** Many that live for seconds, on a machine that may have few processors. */
const javaOptions = '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC';
/** A master that was killed finds its workers and applications again. */
const recovery = '-Dspark.deploy.recoveryMode=FILESYSTEM -Dspark.deploy.recoveryDirectory=/srv/spark/recovery';

export class SparkCluster implements AsyncDisposable {
  readonly host: SshHost;
  /** What runs need to use it; every user of this machine can start it. */
  readonly python: string;
  readonly sparkHome: string;

  private constructor(host: SshHost) {
    this.host = host;
    const { python, home } = pySpark();
    this.python = python;
    this.sparkHome = home;
  }

  static async up({
    workers = 2,
    livy = false,
    yarn = false,
    ...options
  }: SparkClusterOptions = {}): Promise<SparkCluster> {
    pySpark(); // made before there is anything to take away
    if (livy) jarsOf('livy');
    if (yarn) jarsOf('yarn');
    const host = await SshHost.up({ diskMegabytes: 4096, ...options });
    const cluster = new SparkCluster(host);
    try {
      host.shell(furniture(host.address, cluster.sparkHome));
      if (yarn) {
        await cluster.#startYarn();
        return cluster;
      }
      cluster.startMaster();
      for (let number = 1; number <= workers; number++) cluster.startWorker(number);
      await cluster.untilWorkers(workers);
      if (livy) await cluster.#startLivy();
      return cluster;
    } catch (error) {
      await host.down();
      throw error;
    }
  }

  static found(folder: string): SparkCluster {
    return new SparkCluster(SshHost.found(folder));
  }

  /** The standalone one. */
  get master(): string {
    return `spark://${this.host.address}:7077`;
  }

  get masterPage(): string {
    return `http://${this.host.address}:8080`;
  }

  get livy(): string {
    return `http://${this.host.address}:8998`;
  }

  startMaster(): void {
    const { address } = this.host;
    this.#daemon('master', `org.apache.spark.deploy.master.Master --host ${address} --port 7077 --webui-port 8080`);
  }

  startWorker(number: number): void {
    const places = `--host ${this.host.address} --work-dir /srv/spark/work${number} --cores 1 --memory 1g`;
    this.#daemon(`worker${number}`, `org.apache.spark.deploy.worker.Worker ${places} ${this.master}`);
  }

  /** Ends a daemon at once: `master`, `worker1`, … */
  kill(daemon: string): void {
    this.host.shell(`kill -KILL $(cat /srv/spark/${daemon}.pid)`);
  }

  async untilWorkers(count: number): Promise<void> {
    await this.#until(() => this.#status().aliveworkers === count, 'its workers');
  }

  /** Those that the master has on now. */
  applications(): Application[] {
    return this.#status().activeapps;
  }

  /** Command lines of what works for applications: not the daemons. */
  executors(): string[] {
    return this.host
      .shell('ps -u spark -o args= || true')
      .split('\n')
      .filter((line) => /CoarseGrainedExecutorBackend|pyspark\.daemon|pyspark\/daemon/.test(line));
  }

  /** Those that Livy knows. */
  batches(): string[] {
    const { sessions } = JSON.parse(this.#page(`${this.livy}/batches`)) as { sessions: { id: number }[] };
    return sessions.map(({ id }) => `batch ${id}`);
  }

  /** As somebody ends it who asks Livy himself. */
  endBatch(id: number): void {
    const remove =
      'import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], method="DELETE", headers={"X-Requested-By": "somebody"}))';
    this.host.shell(`python3 -c '${remove}' ${this.livy}/batches/${id}`);
  }

  down(): Promise<void> {
    return this.host.down();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }

  #daemon(name: string, command: string): void {
    const env = `SPARK_HOME=${this.sparkHome} SPARK_DAEMON_MEMORY=${daemonMemory} SPARK_DAEMON_JAVA_OPTS="${javaOptions}" SPARK_MASTER_OPTS="${recovery}"`;
    const detached = `setsid ${env} ${this.sparkHome}/bin/spark-class ${command} >>/srv/spark/${name}.log 2>&1 </dev/null & echo $! >/srv/spark/${name}.pid`;
    this.host.shell(`su spark -s /bin/sh -c '${detached.replace('setsid ', 'exec setsid env ')}'`);
  }

  async #startLivy(): Promise<void> {
    const { host, sparkHome, python } = this;
    const place = `${host.home}/livy`;
    const env = `LIVY_HOME=${place} LIVY_CONF_DIR=${place}/conf SPARK_HOME=${place}/spark PYSPARK_PYTHON=${python}`;
    const opens = '--add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/sun.net=ALL-UNNAMED';
    const classes = `${jarsOf('livy')}:${place}/conf`;
    host.shell(livyFurniture(place, host.address, this.master, sparkHome, `${host.home}/.stellwerk`));
    host.shell(
      `chown -R ${host.user} ${place} && cd ${place} && su ${host.user} -s /bin/sh -c 'cd ${place}; exec setsid env ${env} java ${javaOptions} -Xmx256m ${opens} -cp "${classes}" org.apache.livy.server.LivyServer >>${place}/livy.log 2>&1 </dev/null & echo $! >${place}/livy.pid'`,
    );
    await this.#until(() => this.batches().length === 0, 'Livy');
  }

  async #startYarn(): Promise<void> {
    const { host, sparkHome } = this;
    host.shell(yarnFurniture(host.address, host.user, sparkHome));
    this.startYarn('resourcemanager');
    this.startYarn('nodemanager');
    await this.#until(() => this.yarn('nodes?states=RUNNING').includes('"nodeHTTPAddress"'), 'the node of YARN');
  }

  startYarn(which: keyof typeof yarnDaemons): void {
    const opens = '--add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.util=ALL-UNNAMED';
    const java = `java ${javaOptions} -Xmx256m ${opens} -cp "${hadoopFolder}:${jarsOf('yarn')}" ${yarnDaemons[which]}`;
    const { user } = this.host;
    this.host.shell(
      `su ${user} -s /bin/sh -c 'cd /srv/yarn; exec setsid env HADOOP_HOME=/srv/yarn ${java} >>/srv/yarn/${which}.log 2>&1 </dev/null & echo $! >/srv/yarn/${which}.pid'`,
    );
  }

  killYarn(which: keyof typeof yarnDaemons): void {
    this.host.shell(`kill -KILL $(cat /srv/yarn/${which}.pid)`);
  }

  /** What its resource manager answers. */
  yarn(path: string): string {
    return this.#page(`http://${this.host.address}:8088/ws/v1/cluster/${path}`);
  }

  /** Of all applications that it has ever had, the oldest first. */
  yarnApplications(): YarnApplication[] {
    const { apps } = JSON.parse(this.yarn('apps')) as { apps: { app?: YarnApplication[] } | null };
    return (apps?.app ?? []).sort((one, other) => one.id.localeCompare(other.id));
  }

  killLivy(): void {
    this.host.shell(`kill -KILL $(cat ${this.host.home}/livy/livy.pid)`);
  }

  #status(): { aliveworkers: number; activeapps: Application[] } {
    return JSON.parse(this.#page(`${this.masterPage}/json/`));
  }

  /** As the machine itself sees it. */
  #page(url: string): string {
    return this.host.shell(
      `python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=9).read().decode())' ${url}`,
    );
  }

  async #until(isSo: () => boolean, what: string): Promise<void> {
    for (let tries = 0; tries < 600; tries++) {
      try {
        if (isSo()) return;
      } catch {
        // it does not answer yet
      }
      await pause(200);
    }
    throw new Error(
      `${what} did not come up: ${this.host.shell('tail -n 30 /srv/spark/*.log /srv/*/livy/*.log /srv/yarn/*.log || true')}`,
    );
  }
}

const confFolder = '/etc/spark';

/** As a distribution of Spark furnishes a head node: its own name resolves, and no other is asked for; `spark-submit` is on the PATH. */
const furniture = (address: string, home: string) => `
set -e
echo "${address} $(hostname)" >> /etc/hosts
sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf
useradd -m -b /srv -s /bin/sh spark
mkdir -p ${confFolder}
printf 'spark.driver.extraJavaOptions %s\\nspark.executor.extraJavaOptions %s\\n' '${javaOptions}' '${javaOptions}' > ${confFolder}/spark-defaults.conf
printf '#!/bin/sh\\nexport SPARK_HOME=%s SPARK_CONF_DIR=${confFolder}\\nexec "$SPARK_HOME/bin/spark-submit" "$@"\\n' '${home}' > /usr/local/bin/spark-submit
chmod 755 /usr/local/bin/spark-submit
`;

const properties = (of: Record<string, string | number>) =>
  `<configuration>${Object.entries(of)
    .map(([name, value]) => `<property><name>${name}</name><value>${value}</value></property>`)
    .join('')}</configuration>`;

/** Spark finds YARN by its own `spark-env.sh`, as on the head node of a distribution; files are handed over by a folder, since there is no HDFS. */
const yarnFurniture = (address: string, user: string, home: string) => `
set -e
mkdir -p ${hadoopFolder} /srv/yarn/state
cat > ${hadoopFolder}/core-site.xml <<'END'
${properties({ 'fs.defaultFS': 'file:///', 'hadoop.tmp.dir': '/srv/yarn/tmp' })}
END
cat > ${hadoopFolder}/yarn-site.xml <<'END'
${properties({
  'yarn.resourcemanager.hostname': address,
  'yarn.nodemanager.hostname': address,
  'yarn.resourcemanager.recovery.enabled': 'true',
  'yarn.resourcemanager.store.class': 'org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore',
  'yarn.resourcemanager.fs.state-store.uri': 'file:///srv/yarn/state',
  'yarn.nodemanager.resource.memory-mb': 3_072,
  'yarn.nodemanager.resource.cpu-vcores': 4,
  'yarn.scheduler.minimum-allocation-mb': 128,
  'yarn.nodemanager.local-dirs': '/srv/yarn/local',
  'yarn.nodemanager.log-dirs': '/srv/yarn/logs',
  'yarn.nodemanager.vmem-check-enabled': 'false',
  'yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage': 99.9,
  'yarn.nodemanager.disk-health-checker.min-free-space-per-disk-mb': 0,
  'yarn.nm.liveness-monitor.expiry-interval-ms': 10_000,
  'yarn.am.liveness-monitor.expiry-interval-ms': 60_000,
  'yarn.resourcemanager.nodemanagers.heartbeat-interval-ms': 200,
  'yarn.nodemanager.sleep-delay-before-sigkill.ms': 2_000,
})}
END
cat > ${hadoopFolder}/capacity-scheduler.xml <<'END'
${properties({
  'yarn.scheduler.capacity.root.queues': 'default',
  'yarn.scheduler.capacity.root.default.capacity': 100,
  'yarn.scheduler.capacity.maximum-am-resource-percent': 0.9,
})}
END
cat > ${hadoopFolder}/log4j.properties <<'END'
log4j.rootLogger=WARN,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %c: %m%n
END
echo 'export HADOOP_CONF_DIR=${hadoopFolder}' > ${confFolder}/spark-env.sh
printf 'spark.yarn.jars local:%s/jars/*\nspark.yarn.am.extraJavaOptions %s\n' '${home}' '${javaOptions}' >> ${confFolder}/spark-defaults.conf
chown -R ${user} /srv/yarn
`;

/** Livy 0.7 takes no Spark that says it is newer than 2.4: it is told so, and what it starts is the real one. */
const livyFurniture = (place: string, address: string, master: string, home: string, jobs: string) => `
set -e
mkdir -p ${place}/conf ${place}/logs ${place}/spark/bin
cat > ${place}/conf/livy.conf <<END
livy.server.host = ${address}
livy.server.port = 8998
livy.spark.master = ${master}
livy.spark.deploy-mode = client
livy.file.local-dir-whitelist = ${jobs}
livy.server.csrf-protection.enabled = true
livy.repl.enable-hive-context = false
END
cat > ${place}/spark/bin/spark-submit <<'END'
#!/bin/bash
export SPARK_HOME=${home} SPARK_CONF_DIR=${confFolder}
if [ "$1" = --version ]; then
  printf 'Welcome to\\n version 2.4.8\\nUsing Scala version 2.11.12\\n' >&2
  exit 0
fi
exec "$SPARK_HOME/bin/spark-submit" "$@"
END
chmod 755 ${place}/spark/bin/spark-submit
`;
