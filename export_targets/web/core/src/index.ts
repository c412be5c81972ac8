export { Cancelled, InputError } from "./errors";
export { checkIntact, parseModel, sha256, type Model } from "./model";
export { TorchGenerator } from "./noise";
export { openPipeline, type Ort, type ReadFile } from "./ort";
export { Pipeline, type Picture, type Request, type Watcher } from "./pipeline";
export { encodePng } from "./png";
export { makeSampler, type Sampler } from "./samplers";
export { parseScheduler, SAMPLERS } from "./scheduler_config";
export { ClipTokenizer } from "./tokenizer";
