import { describe } from 'vitest';
import { whyNoKubernetes } from '../../../../../test/engines/kubernetes/kubernetes-cluster.ts';
import { driverSuite } from '../../driver.suite.ts';
import { onCluster } from './kubernetes.fixture.ts';

const named = (what: string) => `${what}${whyNoKubernetes ? ` (${whyNoKubernetes})` : ''}`;

describe.skipIf(whyNoKubernetes)(named('a Kubernetes cluster'), () => {
  driverSuite('it', (server) => onCluster(server));
});
