// Reads resources of operators as a JSON list, and prints what their schemas say against each; nothing where all fit.
import { readFileSync } from "node:fs";

const FOLDERS = { "monitoring.coreos.com/v1": "prometheus-operator", "cert-manager.io/v1": "cert-manager" };

for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  const path = `@kubernetes-models/${FOLDERS[resource.apiVersion]}/${resource.apiVersion}/${resource.kind}`;
  const { [resource.kind]: Kind } = await import(path);
  try {
    new Kind(resource).validate();
  } catch (error) {
    console.log(`${resource.kind} ${resource.metadata.name}: ${error.message}`);
  }
}
