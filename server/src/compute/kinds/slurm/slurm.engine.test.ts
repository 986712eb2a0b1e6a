import { describe } from 'vitest';
import { whyNoSlurm } from '../../../../../test/engines/slurm/packages.ts';
import { driverSuite } from '../../driver.suite.ts';
import { onCluster } from './slurm.fixture.ts';

describe.skipIf(whyNoSlurm)(`a Slurm cluster${whyNoSlurm ? ` (${whyNoSlurm})` : ''}`, () => {
  driverSuite('it', (server) => onCluster(server));
});
