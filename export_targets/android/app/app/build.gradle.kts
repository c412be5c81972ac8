plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "edgekd.app"
    compileSdk = 35

    defaultConfig {
        applicationId = "edgekd.app"
        minSdk = 29
        targetSdk = 35
        versionCode = 1
        versionName = "1"
        // Processors of phones; add "x86_64" for the emulator.
        ndk { abiFilters += "arm64-v8a" }
    }

    androidResources {
        // Weights hardly compress, and stored as they are they are read in one go.
        noCompress += "ort"
    }
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    implementation(project(":core"))
    // 1.17 is the oldest that the tests ran these files with.
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.22.0")
}
