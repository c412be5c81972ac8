// Tokenizer, noise, samplers and pipeline: plain Kotlin, no Android, no runtime.
plugins {
    id("org.jetbrains.kotlin.jvm")
}

kotlin {
    jvmToolchain(17)
}
