import { describe } from 'vitest';
import { whyNoDocker } from '../../../../../test/engines/docker/docker-engine.ts';
import { driverSuite } from '../../driver.suite.ts';
import { onEngine } from './docker.fixture.ts';

describe.skipIf(whyNoDocker)(`a Docker Engine${whyNoDocker ? ` (${whyNoDocker})` : ''}`, () => {
  driverSuite('it', (server) => onEngine(server));
});
