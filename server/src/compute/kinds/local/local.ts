// The machine of whoever submits: just there, for its user only. The SDK or CLI starts the runner there; the server only records.
import type { ComputeDriver } from '../../driver.ts';

export const localDriver: ComputeDriver<'local'> = {
  kind: 'local',
  hostsServices: false,
  async probe() {
    const detail = 'The machine of whoever submits; its own Python is looked at when a run is taken up there.';
    return { usable: true, findings: [{ what: 'local', ok: true, detail }] };
  },
  containers: true,
  /** Whether there is a Docker, its machine finds out when it takes the run up. */
  async flaws(_target, { container }) {
    if (container?.environment !== 'at-start') return [];
    if (container.image === undefined) return [{ field: 'container.image', why: 'has no image of its own: name one' }];
    const signsIn = (['user', 'password'] as const).filter((field) => container[field] !== undefined);
    return signsIn.map((field) => ({
      field: `container.${field}`,
      why: 'pulls with what `docker login` was given there',
    }));
  },
  reach: () => 'elsewhere',
  queue: ({ workspace, name }) => `local/${workspace}/${name}`,
};
