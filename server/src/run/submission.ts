// Checks what is submitted, before anything is recorded: the script is there, the target can be used, the environment can be read,
// every secret has its value. What is wrong is said with the field that is wrong.
import { createHash } from 'node:crypto';
import type { BuiltSpecification, IndexSettings } from '@stellwerk/contract/environment.ts';
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { flawOfPath } from '@stellwerk/contract/paths.ts';
import { gpusOf, readOf, wordsOfGpus } from '@stellwerk/contract/resources.ts';
import type { RunConfiguration } from '@stellwerk/contract/run-configuration.ts';
import type { CheckedOf } from '@stellwerk/contract/verbs.ts';
import type { Computes, UsableTarget } from '../compute/computes.ts';
import { type ReadFile, specificationOf } from '../environment/environments.ts';

export interface SubmissionNeeds {
  computes: Pick<Computes, 'require'>;
  snapshots: {
    readFile(workspace: string, snapshot: string, path: string): Promise<string | undefined>;
    /** Throws if the snapshot is not there, or not complete. */
    fileOf(workspace: string, snapshot: string, path: string): Promise<unknown>;
  };
  environments: { read(specification: BuiltSpecification, mayHaveConda: boolean): { indexes: IndexSettings } };
  hasSecret(workspace: string, name: string): Promise<boolean>;
  /** Throws if the workspace has no datastore of that name. */
  requireDatastore(workspace: string, name: string): Promise<unknown>;
}

export async function checkSubmission(
  needs: SubmissionNeeds,
  input: CheckedOf<'runs', 'submit'>,
): Promise<UsableTarget> {
  const { workspace, snapshot, configuration } = input;
  const usable = await needs.computes.require(workspace, configuration.target);
  checkAbilities(configuration, usable);
  checkCapacity(configuration, usable);
  await checkFlaws(configuration, usable);
  checkPaths(configuration);
  checkSecrets(configuration, input.secrets ?? {});
  checkCredentials(configuration);
  if (!(await needs.snapshots.fileOf(workspace, snapshot, configuration.script)))
    throw misconfigured(
      'script',
      `the directory that was submitted has no file ${JSON.stringify(configuration.script)}`,
    );
  const read: ReadFile = (path) => needs.snapshots.readFile(workspace, snapshot, path);
  const specification = await specificationOf(configuration.environment, read);
  if (!specification.userManaged) needs.environments.read(specification, true);
  for (const { datastore } of Object.values(configuration.dataReferences))
    if (datastore !== undefined) await needs.requireDatastore(workspace, datastore);
  for (const name of configuration.vaultSecrets)
    if (!(await needs.hasSecret(workspace, name)))
      throw misconfigured('vaultSecrets', `the workspace has no secret ${name}`);
  return usable;
}

/** What its kind can do at all. */
function checkAbilities(
  { framework, mpi, spark, resources, container, target }: RunConfiguration,
  { driver }: UsableTarget,
): void {
  const frameworks = ['Python', ...(driver.frameworks ?? [])];
  const refuse = (field: string, does: string) => {
    throw misconfigured(field, `the compute target ${target} ${does}`);
  };
  if (!frameworks.includes(framework))
    refuse('framework', `runs ${frameworks.length === 1 ? 'Python only' : frameworks.join(' and ')}, not ${framework}`);
  if (mpi && framework !== 'MPI') throw misconfigured('mpi', `it is for the framework MPI, not ${framework}`);
  if (spark && framework !== 'PySpark')
    throw misconfigured('spark', `it is for the framework PySpark, not ${framework}`);
  if (resources.nodes !== 1 && !driver.severalNodes) refuse('resources.nodes', 'has one machine');
  if (container && !driver.containers) refuse('container', 'runs nothing in containers');
  if (container?.environment === 'in-image' && !driver.takesImages)
    refuse('container.environment', 'does not take images that are made here; let the environment be made at-start');
}

async function checkFlaws(configuration: RunConfiguration, { driver, target }: UsableTarget): Promise<void> {
  const flaw = (await driver.flaws?.(target, configuration))?.[0];
  if (flaw) throw misconfigured(flaw.field, `the compute target ${configuration.target} ${flaw.why}`);
}

/** What a target can never give is refused at once, not waited for. */
function checkCapacity({ resources, target }: RunConfiguration, { capacity }: UsableTarget): void {
  const { cpus = 0, memoryBytes = 0, gpus, gpuType } = readOf(resources);
  const refuse = (field: string, has: string) => {
    throw misconfigured(`resources.${field}`, `the compute target ${target} has ${has}`);
  };
  if (!capacity) return;
  if (cpus > capacity.cpus) refuse('cpus', `${capacity.cpus} CPUs`);
  if (memoryBytes > capacity.memoryBytes)
    refuse('memory', `${capacity.memoryBytes.toLocaleString('en')} bytes of memory`);
  const types = [...new Set(capacity.gpus.map(({ type }) => type))];
  if (gpuType !== undefined && !types.includes(gpuType))
    refuse('gpuType', types.length > 0 ? `GPUs of the types ${types.join(', ')}` : 'no GPUs');
  const fitting = gpusOf(capacity.gpus, gpuType).length;
  if (gpus > fitting) refuse('gpus', wordsOfGpus(fitting, gpuType));
}

function checkPaths({ script, environment, dataReferences }: RunConfiguration): void {
  const paths: [string, string | undefined][] = [
    ['script', script],
    ['environment.condaFile', environment.condaFile],
    ['environment.requirementsFile', environment.requirementsFile],
    ['environment.lockFile', environment.lockFile],
    ...Object.entries(dataReferences).flatMap(([name, { path, pathOnCompute }]): [string, string | undefined][] => [
      [`dataReferences.${name}.path`, path],
      [`dataReferences.${name}.pathOnCompute`, pathOnCompute],
    ]),
  ];
  for (const [field, path] of paths) {
    const flaw = path === undefined ? undefined : flawOfPath(path);
    if (flaw) throw misconfigured(field, `the path ${JSON.stringify(path)} is not allowed: ${flaw}`);
  }
}

function checkSecrets({ secrets, environmentVariables }: RunConfiguration, values: Record<string, string>): void {
  for (const name of secrets) {
    if (values[name] === undefined) throw misconfigured('secrets', `no value was given for ${name}`);
    if (Object.hasOwn(environmentVariables, name))
      throw misconfigured('secrets', `${name} stands among the environment variables too, which are recorded`);
  }
  for (const name of Object.keys(values))
    if (!secrets.includes(name)) throw misconfigured('secrets', `a value was given for ${name}, which is not listed`);
}

/** The configuration is a record; what stands in the snapshot's files is the user's. */
function checkCredentials({ environment }: RunConfiguration): void {
  const texts = [...(environment.requirements ?? []), JSON.stringify(environment.conda ?? null)];
  if (texts.some((text) => /:\/\/[^\s/@"]+@/.test(text) && !/git\+ssh:\/\/git@/.test(text)))
    throw misconfigured(
      'environment',
      'an address in it has credentials; set them once with `stellwerk package-index set`',
    );
}

/** The same for the same content, whatever the order of its keys. */
export function contentHash(content: unknown): string {
  const canonical = JSON.stringify(content, (_, value: unknown) =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  return createHash('sha256').update(canonical).digest('hex');
}

function misconfigured(field: string, why: string): ServiceError {
  return new ServiceError(
    'invalid-argument',
    'run.configuration-invalid',
    `The run configuration is not right at ${field}: ${why}.`,
    { field },
  );
}
