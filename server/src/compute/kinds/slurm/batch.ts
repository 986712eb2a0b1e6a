// What is submitted for a run: a small script that lies in the job's folder, and what it asks of the cluster in Slurm's words. Neither has anything
// secret in it: token and secrets are in a 0600 file of the folder. Where no folder can be reached, the script brings all of it along.

import type { SettingsOf } from '@stellwerk/contract/compute-settings.ts';
import type { Job } from '@stellwerk/contract/job.ts';

type Settings = SettingsOf<'slurm'>;

/** What a job asks for; both ways of submitting say it in their own form. */
export interface Wanted {
  name: string;
  /** Where the script lies, for Slurm's commands. */
  folder: string;
  script: string;
  /** Where what it prints goes. */
  output: string;
  nodes: number;
  tasksPerNode: number;
  cpusPerTask?: number;
  memoryMegabytes?: number;
  /** As `--gres` takes it. */
  gres?: string;
  minutes?: number;
  /** The runner is warned so long ahead of the end. */
  warnSeconds?: number;
  settings: Settings;
}

/** For making ready and for delivering, on top of what the script may take. */
const marginMinutes = 10;

export function wantedOf(
  { name, folder, script, output }: Pick<Wanted, 'name' | 'folder' | 'script' | 'output'>,
  job: Job,
  settings: Settings,
): Wanted {
  const { nodes, cpus, memoryBytes, gpus, gpuType, timeLimitSeconds } = job.resources;
  const { warning } = job.configuration;
  const tasksPerNode = ranksPerNode(job);
  return {
    name,
    folder,
    script,
    output,
    nodes,
    tasksPerNode,
    ...(cpus !== undefined && { cpusPerTask: shareOf(cpus, tasksPerNode) }),
    ...(memoryBytes !== undefined && { memoryMegabytes: Math.ceil(memoryBytes / 2 ** 20) }),
    ...(gpus > 0 && { gres: ['gpu', ...(gpuType === undefined ? [] : [gpuType]), gpus].join(':') }),
    ...(timeLimitSeconds !== undefined && { minutes: Math.ceil(timeLimitSeconds / 60) + marginMinutes }),
    ...(warning && { warnSeconds: Math.min(65_535, Math.ceil(warning.seconds)) }),
    settings,
  };
}

const ranksPerNode = ({ configuration: { framework, mpi } }: Job) =>
  framework === 'MPI' ? (mpi?.processesPerNode ?? 1) : 1;
const shareOf = (cpus: number, tasks: number) => Math.max(1, Math.floor(cpus / tasks));

/** To Slurm a percent sign begins what it puts in itself. */
export const outputIn = (folder: string) => `${folder.replaceAll('%', '%%')}/runner.log`;

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * Whoever comes second to the folder leaves it alone: however often a job is submitted, one runner takes it up. With words of its own, it is somebody
 * who looks in; what the set-up lines print is none of his output.
 */
export function scriptOf(folder: string, bundle: string, { setUp, python }: Settings): string {
  return `#!/bin/bash -l
cd /
[ $# -gt 0 ] || (set -C; echo "$SLURM_JOB_ID" > ${quoted(folder)}/jobid) 2>/dev/null || exit 0
exec 3>&1 >&2
${setUp.map((line) => `${line}\n`).join('')}exec >&3 3>&-
export PYTHONPATH=${quoted(bundle)}\${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
[ $# -eq 0 ] || exec ${python} -S -m stellwerk.runner.beside ${quoted(folder)} "$@"
exec ${python} -S -m stellwerk.runner ${quoted(folder)}
`;
}

/** From the standard library only, since nothing else is there yet. A folder that is there is somebody else's. */
const unpack = `
import base64, gzip, io, json, os, sys, tempfile, zipfile
os.umask(0o077)
carried, what, folder, more = json.load(sys.stdin), sys.argv[1], os.path.join(os.path.expanduser("~"), sys.argv[2]), sys.argv[3:]
job = carried.get("job")
if job is None:
    place = tempfile.mkdtemp(prefix="stellwerk-")
else:
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    try:
        os.mkdir(folder)
    except FileExistsError:
        sys.exit(0)
    place = os.path.join(folder, "bundle")
    job["cacheFolder"] = os.path.join(os.path.dirname(os.path.dirname(folder)), "cache")
    with open(os.path.join(folder, "job.json"), "w") as file:
        json.dump(job, file)
zipfile.ZipFile(io.BytesIO(gzip.decompress(base64.b64decode(carried["package"])))).extractall(place)
os.environ["PYTHONPATH"] = place
if job is not None:
    os.execv(sys.executable, [sys.executable, "-S", "-m", "stellwerk.runner.carried", what, folder])
import shutil, subprocess
code = subprocess.call([sys.executable, "-S", "-m", "stellwerk.runner.carried", what, folder, *more])
shutil.rmtree(place, ignore_errors=True)
sys.exit(code)
`;

/** Brings along what it needs, a line of JSON, as its own input. */
export function carriedScript(words: readonly string[], carried: string, { setUp, python }: Settings): string {
  return `#!/bin/bash -l
cd /
exec 3>&1 >&2
${setUp.map((line) => `${line}\n`).join('')}exec >&3 3>&-
exec ${python} -S -c ${quoted(unpack)} ${words.map(quoted).join(' ')} <<'STELLWERK'
${carried}
STELLWERK
`;
}

export function sbatchWords(wanted: Wanted): string[] {
  const {
    name,
    folder,
    output,
    nodes,
    tasksPerNode,
    cpusPerTask,
    memoryMegabytes,
    gres,
    minutes,
    warnSeconds,
    settings,
  } = wanted;
  const given = Object.entries({
    'job-name': name,
    output,
    chdir: '/',
    nodes,
    'ntasks-per-node': tasksPerNode,
    'cpus-per-task': cpusPerTask,
    mem: memoryMegabytes === undefined ? undefined : `${memoryMegabytes}M`,
    gres,
    time: minutes,
    signal: warnSeconds === undefined ? undefined : `B:USR1@${warnSeconds}`,
    partition: settings.partition,
    account: settings.account,
    qos: settings.qos,
    constraint: settings.constraint,
    reservation: settings.reservation,
  }).flatMap(([option, value]) => (value === undefined ? [] : [`--${option}=${value}`]));
  return ['sbatch', '--parsable', '--no-requeue', ...given, ...settings.sbatch, `${folder}/batch.sh`];
}

/** What starts the script on its nodes; on one node alone it is started by the runner itself. */
export async function launcherOf(
  job: Job,
  settings: Settings,
  described: () => Promise<{ hasPmix: boolean }>,
): Promise<string[] | undefined> {
  const { nodes, cpus } = job.resources;
  const isMpi = job.configuration.framework === 'MPI';
  const tasks = ranksPerNode(job);
  if (nodes === 1 && !isMpi) return undefined;
  const byItself = async () => ((await described()).hasPmix ? ['srun', '--mpi=pmix'] : ['mpirun']);
  const words = isMpi ? (settings.mpi?.split(' ') ?? (await byItself())) : ['srun'];
  if (words[0] !== 'srun') return words;
  return [
    ...words,
    '--kill-on-bad-exit=1',
    `--ntasks-per-node=${tasks}`,
    ...(cpus === undefined ? [] : [`--cpus-per-task=${shareOf(cpus, tasks)}`]),
  ];
}
