// What an engine is and what its images have, asked by containers that are gone at once.
import { randomBytes } from 'node:crypto';
import type { EnvironmentTarget } from '@stellwerk/contract/environment.ts';
import { type OnceEnded, runOnce } from './containers.ts';
import type { Engine } from './engine.ts';
import * as places from './places.ts';
import type { Relays } from './relays.ts';

export interface Info {
  ID: string;
  Name: string;
  ServerVersion: string;
  OSType: string;
  NCPU: number;
  MemTotal: number;
  MemoryLimit: boolean;
  CpuCfsQuota: boolean;
}

export interface LookingNeeds {
  installation: string;
  pythonPackage: string;
  relays: Relays;
}

export const infoOf = (engine: Engine) => engine.ask<Info>({ path: '/info' });

/** What the Python of an image can do; its answer is one document if it can be used. */
export function describedBy(engine: Engine, image: string, needs: LookingNeeds): Promise<OnceEnded> {
  return runWithPackage(engine, image, needs, ['-m', 'stellwerk.runner.remote', 'describe']);
}

export function platformFrom({ stdout }: OnceEnded): EnvironmentTarget {
  return (JSON.parse(stdout) as { platform: EnvironmentTarget }).platform;
}

/** Whether this server is reached, as a run would reach it. */
export function askedServer(engine: Engine, image: string, needs: LookingNeeds): Promise<OnceEnded> {
  const words = ['-m', 'stellwerk.runner.way_back', `unix:${places.relayLink}`];
  return runWithPackage(engine, image, needs, words, (name) => needs.relays.ensure(engine, name));
}

async function runWithPackage(
  engine: Engine,
  image: string,
  { installation, pythonPackage }: LookingNeeds,
  args: string[],
  beside?: (name: string) => Promise<void>,
): Promise<OnceEnded> {
  const name = `stellwerk-${installation}-look-${randomBytes(6).toString('hex')}`;
  const labels = places.labelsOf(installation, 'look');
  const words = [...places.python, ...args];
  const files = await places.bundleEntries(pythonPackage);
  const more = { files, ...(beside && { beside: () => beside(name) }) };
  return runOnce(engine, { name, image, words, env: places.runnerEnvironment, labels }, more);
}

/** What a program in a container says when it cannot do its work. */
export function saidBy({ code, stdout, stderr }: OnceEnded): string {
  const said = (stderr || stdout).trim().split('\n').at(-1) || `it ended with exit code ${code}`;
  return said.replace(/[.\s]+$/, '');
}
