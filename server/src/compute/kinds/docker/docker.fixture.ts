// An engine for the tests of this kind, and drivers that reach it as those of an installation do.
import { DockerEngine, type DockerEngineOptions } from '../../../../../test/engines/docker/docker-engine.ts';
import { wheelPath } from '../../../assets.ts';
import { connectTo } from '../../../installation.ts';
import type { Tried } from '../../driver.suite.ts';
import type { Target } from '../../driver.ts';
import type { RealServer } from '../../real-server.fixture.ts';
import { DockerDriver } from './docker.ts';
import { DockerJobs } from './jobs.ts';
import { Relays } from './relays.ts';

type Settings = Target<'docker'>['settings'];

export interface OnEngine extends Tried<'docker'> {
  /** Another life of the service, with the ways back that the one before has laid. */
  driver(): DockerDriver;
  /** That of another installation, which knows the same engine. */
  another(): DockerDriver;
  /** As the end of the service does: all ways back are cut. */
  cutWays(): Promise<void>;
  engine: DockerEngine;
  /** Of the vault. */
  secrets: Record<string, string>;
  targetWith(more: Partial<Settings>): Target<'docker'>;
}

export async function onEngine(server: Pick<RealServer, 'url'>, options: DockerEngineOptions = {}): Promise<OnEngine> {
  const engine = await DockerEngine.up(options);
  const { ca, certificate, key } = engine.certificates;
  const secrets: Record<string, string> = { ca, certificate, key };
  const pythonPackage = (await wheelPath())!;
  const connectHere = () => connectTo(server.url);
  let relays = new Relays(connectHere);
  const needs = {
    installation: 'suite',
    pythonPackage,
    secret: async (_: unknown, name: string) => secrets[name]!,
    connectHere,
  };
  const plain: Settings = { kind: 'docker', address: `unix://${engine.socket}`, image: engine.image };
  const targetWith = (more: Partial<Settings>) => ({
    workspace: 'suite',
    name: 'engine',
    settings: { ...plain, ...more },
  });
  return {
    engine,
    secrets,
    driver: () => new DockerDriver(needs, relays),
    another: () => new DockerDriver({ ...needs, installation: 'another' }),
    dying(last) {
      const own = new Relays(connectHere);
      last.atEnd(() => own.closeAll());
      const driver = new DockerDriver(needs, own);
      const engineOf = (target: Target<'docker'>) => last.of(driver.engineOf(target), ['ask', 'tell', 'hijacked']);
      return new DockerJobs({ ...needs, relays: own, engineOf });
    },
    async cutWays() {
      const cut = relays;
      relays = new Relays(connectHere);
      await cut.closeAll();
    },
    targetWith,
    target: targetWith({}),
    leftovers: async () => engine.left().filter((name) => !name.includes('-cache-')),
    alive: (pids) => pids.filter((pid) => engine.processes().includes(pid)),
    end: () => engine.down(),
  };
}
